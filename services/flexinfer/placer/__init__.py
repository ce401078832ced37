"""Where does a Model live? Filters with a reason each, then the node that it fills best."""
