"""See the module beside this file."""
