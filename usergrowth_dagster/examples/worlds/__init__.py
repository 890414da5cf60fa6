"""Example data, written as landing files so that the product reads them like anyone's."""
