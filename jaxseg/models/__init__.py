"""Networks: flax modules and the pure functions made of them."""
