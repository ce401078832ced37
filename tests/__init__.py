"""The tests; `builders` builds the Models, Pods and nodes that they use."""
