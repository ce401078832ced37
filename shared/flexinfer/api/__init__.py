"""Resource types and the tables that everything derives from: Model, conditions, reasons, labels, phase, components. Pure."""
