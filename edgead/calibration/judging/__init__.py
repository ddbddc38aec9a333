"""Is the engine still the trained model, and what is the model worth?"""
