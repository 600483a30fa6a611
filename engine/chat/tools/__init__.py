"""Text to thinking, content and tool calls, in every format that models write."""
