"""What limits add to a request, a call or a task of each framework, beside the limiter that is usual there."""
