"""What FlexInfer relies on of engines, on their real programs."""
