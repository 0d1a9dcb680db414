"""What the screens share. A page draws and passes clicks on; it decides nothing about the data."""
