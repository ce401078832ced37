"""What `flexinfer check` looks at: `objects` are read by `read` into a `View`, and each check of `checks` judges that."""
