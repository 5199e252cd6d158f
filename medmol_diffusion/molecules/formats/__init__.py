"""The files that molecules come from and go to, one layout a module; `files` knows which is which."""
