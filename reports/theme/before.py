"""Before rendering: where `partvision site` has written no pages yet, say so in their place. Needs only Python itself."""
from pathlib import Path

EMPTY = 'No batch has been run yet. `partvision demo` runs one on generated parts, `partvision run BATCH.yml` runs your own.\n'
PAGES = {'_landing.qmd': EMPTY, 'index.qmd': '---\ntitle: Experiments\n---\n\n' + EMPTY}

folder = Path(__file__).resolve().parent.parent/'experiments'
folder.mkdir(exist_ok=True)
for name, text in PAGES.items():
    if not (folder/name).exists(): (folder/name).write_text(text, encoding='utf-8')
