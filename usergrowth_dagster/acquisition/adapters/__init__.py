"""How exchanges ask and are answered: one file each, and the strategies know nothing of them."""
