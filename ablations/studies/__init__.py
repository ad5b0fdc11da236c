"""The built-in studies, one file each: a registered function that returns a Study; its docstring is the question."""
