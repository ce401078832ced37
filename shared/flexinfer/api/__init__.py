"""Resource types, and the tables of reasons, labels and components that everything derives from. Pure."""
