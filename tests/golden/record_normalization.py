"""What the official package's normaliser makes of texts: `normalization.json`.

Run where `voxcpm` 2.0.3, `wetext` 0.1.8, `inflect` and `regex` are installed (PyTorch is not
needed): `python tests/golden/record_normalization.py`.
"""

import importlib.util
import json
from pathlib import Path

TEXTS = """
It's 3:45 p.m. on 5/12/2024, 25°C, 5 km, 20%, Dr. Smith, No. 7, 1st, A4, x264, call 555-1234.
Room 404; flight BA-117 at 9am on Monday, Jan 3rd, 2021; 1.5 GHz; 60 mph; 5 ft.
The '90s, 1990s, 24/7, 3x4, $5M; 10-12 and a-3; 2024-05-12.
€5.50 and £3 and ¥100, or 1,234,567 dollars & more
Nothing here is written in figures, is it?
See https://example.com/a?b=3 or write to a@b.co.
😀 3 apples, 2 * 3 * 4 and snake_case_5
See [the page](http://x.y), <b>bold</b> for 7 days
今天是2024年5月12日，气温-3℃，花了￥12.50，占20%。
550 + 320 = 870 千卡。
圆周率约等于3.14159，电话13800138000，比分3:2，3/4，3~5个，5kg。
女儿和儿子3岁，一会儿去那儿 x-2=3 （括号）【方】 iPhone 15 Pro和A 4纸
这件事——就这样 a b，面积5m²、√2≈1.4
没有数字的句子。
""".strip().splitlines()


def official():
    """Its file alone: the package imports PyTorch."""
    package = Path(importlib.util.find_spec("voxcpm").submodule_search_locations[0])
    file = package / "utils" / "text_normalize.py"
    spec = importlib.util.spec_from_file_location("text_normalize", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TextNormalizer()


if __name__ == "__main__":
    normalizer = official()
    made = {text: normalizer.normalize(text) for text in TEXTS}
    target = Path(__file__).with_name("normalization.json")
    target.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
