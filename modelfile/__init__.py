"""What a model is made of: Modelfile, parameters, templates, weights; creating and converting models."""
