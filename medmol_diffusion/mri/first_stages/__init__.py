"""First stages: from scans to the states that are diffused, and back."""
