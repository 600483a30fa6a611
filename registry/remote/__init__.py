"""Registries and the Hugging Face hub: pull and push."""
