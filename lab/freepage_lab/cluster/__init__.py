"""What the compose cluster needs beside its daemons."""
