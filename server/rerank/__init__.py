"""Reranking, in the shapes of Jina, Cohere and Text Embeddings Inference (TEI)."""
