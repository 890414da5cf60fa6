"""What a person does to campaigns: applies their files, approves and rejects their texts."""
