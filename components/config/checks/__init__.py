"""What a project file must satisfy that no section knows alone, and how it is said."""
