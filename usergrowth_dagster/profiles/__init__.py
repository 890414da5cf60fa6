"""What a group of people is like beside everyone or another group, and how groups overlap."""
