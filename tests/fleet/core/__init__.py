"""What the front decides: values in, values out."""
