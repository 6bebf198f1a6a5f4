"""What headgate offers to tests, tested."""
