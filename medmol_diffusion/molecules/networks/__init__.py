"""The equivariant networks of molecules: one signature, three of them."""
