"""Networks: flax modules, and the pure functions made from them."""
