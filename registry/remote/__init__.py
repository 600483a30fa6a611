"""Pull from and push to registries and the Hugging Face hub."""
