"""Forward operators that serve every domain, and how they are described and composed."""
