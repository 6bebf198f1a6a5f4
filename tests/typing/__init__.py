"""What type checkers must understand. Nothing here is run."""
