"""Real servers for tests, as pytest fixtures. Nothing starts before a test asks for it."""
