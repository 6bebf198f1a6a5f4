"""The algorithms: both dialects compute the same integers, and the integers keep the promises."""
