"""The kinds of label: what each kind's answers mean, how they are counted, and how they are given."""
