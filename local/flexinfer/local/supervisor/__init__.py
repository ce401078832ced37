"""The supervisor: keeps the processes of one instance running, and adopts those that outlived their former one."""
