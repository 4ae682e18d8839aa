"""The built-in tools: one file each, found by being here. `actors/tool_user/tool.py` tells how."""
