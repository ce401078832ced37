"""The supervisor of `flexinfer up`: starts the processes of an instance in order, keeps them running, and stops them."""
