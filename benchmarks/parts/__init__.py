"""How fast is each part of the engine, against what a user would pick for it instead?"""
