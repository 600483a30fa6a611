"""What a model is made of: parameters, Modelfile commands, templates."""
