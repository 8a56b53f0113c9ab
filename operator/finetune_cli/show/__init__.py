"""Data → what is printed: pure functions from runs, plans and curves to rich renderables."""
