"""What each mistake is called in sentences: evidence with figures, then what to look for."""
