"""After rendering: take out what would be fetched from the network, so that the site opens from disk. Needs only Python itself."""
import os, re
from pathlib import Path

REMOTE = r'["\']?(?:https?:)?//[^"\'\s>)]+["\']?'
PATTERNS = {
    '.html': [rf'<script\b[^>]*\ssrc={REMOTE}[^>]*>.*?</script>',      # MathJax, requirejs, jquery
              rf'<link\b[^>]*\shref={REMOTE}[^>]*>',                   # style sheets and fonts
              r'<script\b[^>]*>\s*define\(.jquery.[^<]*</script>'],    # the line that needs requirejs
    '.css': [rf'@import\s*(?:url\()?{REMOTE}\)?[^;]*;']}

root = Path(__file__).resolve().parent.parent.parent
site = root/os.environ.get('QUARTO_PROJECT_OUTPUT_DIR', '_site')
for path in site.rglob('*'):
    for pattern in PATTERNS.get(path.suffix, []):
        text = path.read_text(encoding='utf-8')
        clean = re.sub(pattern, '', text, flags=re.S | re.I)
        if clean != text: path.write_text(clean, encoding='utf-8')
