"""Who may be contacted, and when: suppressions, caps, quiet hours, time zones."""
