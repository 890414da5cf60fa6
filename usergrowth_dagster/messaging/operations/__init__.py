"""What a person does about deliveries under way: pause, cancel, reconcile, look."""
