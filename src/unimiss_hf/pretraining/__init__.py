"""Cross-dimension self-distillation: objective, views, schedules and the loop."""
