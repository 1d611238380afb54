"""What a schema says of a table's rows: read, and as checks. One for validate and for pushed events."""
