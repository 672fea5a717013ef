"""What happens at an entrance, written down: files that the real agent is held against."""
