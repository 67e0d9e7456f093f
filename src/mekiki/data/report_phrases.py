"""The words of an inspector, in English and Japanese: what `mekiki.data.reports` makes its texts of.

No phrase for one fact holds a phrase for another fact of its kind, unless the longer one is told first; and no cause
and no repair holds a phrase for a place or a severity, or the name of another defect. So facts can be read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Choices = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Words:
    """The words of a language.

    Attributes:
        defects: what a defect may be called.
        several: the same for more than one; a language without plurals has the same words.
        places: what a place may be called.
        severities: adjectives, as they stand after "is"; before a noun they get `endings`.
        endings: for an adjective, what comes between it and the noun.
        findings: sentences that name defect, place and severity.
        terse: the same in a few words.
        clean: texts that say that nothing was found.
        clean_said: the words in them by which that is known.
        causes: what may have caused a defect.
        repairs: what may be done, by defect, from mild to thorough: two neighbours for each severity.
        cause_said: sentences around a cause.
        repair_said: sentences around a repair.
        lengths: sentences around the length of a line.
        areas: sentences around the share of the surface.
        nothing: what stands for the cause and the repair of a clean part.
        between: what stands between sentences.
    """

    defects: Choices
    several: Choices
    places: Choices
    severities: Choices
    endings: Mapping[str, str]
    findings: tuple[str, ...]
    terse: tuple[str, ...]
    clean: tuple[str, ...]
    clean_said: tuple[str, ...]
    causes: Choices
    repairs: Choices
    cause_said: tuple[str, ...]
    repair_said: tuple[str, ...]
    lengths: tuple[str, ...]
    areas: tuple[str, ...]
    nothing: str
    between: str


ENGLISH = Words(
    defects={
        "scratch": ("scratch", "score mark", "scuff"),
        "pit": ("pit", "small cavity", "pockmark"),
        "stain": ("stain", "discoloured patch", "blotch"),
        "crack": ("crack", "fissure", "fracture line"),
        "blowhole": ("blowhole", "gas hole", "gas pocket"),
        "break": ("break", "broken edge", "chipped area"),
        "fray": ("fray", "frayed area", "ragged zone"),
        "uneven": ("uneven area", "wavy area", "rough patch"),
    },
    several={
        "scratch": ("scratches", "score marks", "scuffs"),
        "pit": ("pits", "small cavities", "pockmarks"),
        "stain": ("stains", "discoloured patches", "blotches"),
        "crack": ("cracks", "fissures", "fracture lines"),
        "blowhole": ("blowholes", "gas holes", "gas pockets"),
        "break": ("breaks", "broken edges", "chipped areas"),
        "fray": ("frays", "frayed areas", "ragged zones"),
        "uneven": ("uneven areas", "wavy areas", "rough patches"),
    },
    places={
        "upper left": ("in the upper left", "at the top left", "in the upper left part"),
        "top": ("at the top", "in the top centre", "near the upper edge"),
        "upper right": ("in the upper right", "at the top right", "in the upper right part"),
        "left": ("on the left", "on the left-hand side", "in the left centre"),
        "centre": ("in the centre", "in the middle", "in the central part"),
        "right": ("on the right", "on the right-hand side", "in the right centre"),
        "lower left": ("in the lower left", "at the bottom left", "in the lower left part"),
        "bottom": ("at the bottom", "in the bottom centre", "near the lower edge"),
        "lower right": ("in the lower right", "at the bottom right", "in the lower right part"),
    },
    severities={
        "minor": ("minor", "slight", "mild"),
        "moderate": ("moderate", "medium", "noticeable"),
        "severe": ("severe", "serious", "heavy"),
    },
    endings={},
    findings=(
        "{Some} {severity} {defect} {place}.",
        "{Place} there {are} {some} {severity} {defect}.",
        "Found {some} {severity} {defect} {place}.",
        "{Some} {defect} {place}. Severity: {severity}.",
        "{Some} {defect} {are} visible {place}, rated {severity}.",
        "{Place}: {some} {defect}. I rate this as {severity}.",
    ),
    terse=(
        "{Defect} {place}, {severity}.",
        "{Severity} {defect} {place}.",
        "{Place}: {defect}, {severity}.",
        "{Defect}; {place}; {severity}.",
    ),
    clean=(
        "No defect found.",
        "Nothing was found; the surface is clean.",
        "The surface is clean, nothing to report.",
        "OK, no defect found on this part.",
        "Inspected the whole face: nothing was found.",
    ),
    clean_said=("no defect", "nothing was found", "nothing to report"),
    causes={
        "scratch": (
            "a chip caught under the clamp",
            "handling without gloves or trays",
            "parts sliding over each other in the bin",
            "a worn guide rail on the conveyor",
            "a coarse grain in the grinding wheel",
        ),
        "pit": (
            "gas trapped while casting",
            "sand grains torn out of the mould face",
            "corrosion during storage in damp air",
            "particles pressed in and fallen out again",
        ),
        "stain": (
            "coolant that dried on the face",
            "a washing bath that was not changed",
            "oily fingerprints",
            "water drops left after rinsing",
            "local overheating while grinding",
        ),
        "crack": (
            "quenching too fast",
            "residual stress from casting",
            "grinding heat",
            "fatigue under changing load",
            "a blow during transport",
        ),
        "blowhole": (
            "damp raw powder",
            "gas that could not escape while sintering",
            "a mould that was vented badly",
        ),
        "break": (
            "a blow against the fixture",
            "the part dropped during transfer",
            "clamping force set too high",
        ),
        "fray": (
            "a blunt cutting edge",
            "feed set too fast at the exit of the cut",
            "a worn die",
        ),
        "uneven": (
            "a grinding wheel that needs dressing",
            "grinding allowance spread badly",
            "a table that vibrates",
        ),
    },
    repairs={
        "scratch": (
            "polish the face by hand",
            "polish along the grain and inspect again",
            "regrind the face and check the thickness",
            "set the part aside and regrind it",
        ),
        "pit": (
            "accept after deburring the rim",
            "fill and polish",
            "regrind until the hole is gone",
            "scrap the part and check the casting temperature",
        ),
        "stain": (
            "wipe with alcohol",
            "wash again and dry with warm air",
            "replace the coolant and wash the part",
            "pickle the face and inspect it under a lens",
        ),
        "crack": (
            "test with dye penetrant before release",
            "grind out and test with dye penetrant",
            "anneal, then grind out and weld",
            "scrap the part and slow down the quench",
        ),
        "blowhole": (
            "accept if the face is not sealing",
            "fill with resin and grind flush",
            "impregnate and test for leaks",
            "scrap the part and dry the powder longer",
        ),
        "break": (
            "round off the edge",
            "round off the edge and measure it",
            "use the part for a smaller size",
            "scrap the part and soften the fixture",
        ),
        "fray": (
            "brush off loose fibres",
            "trim the edge again",
            "trim the edge and change the cutter",
            "scrap the part and replace the die",
        ),
        "uneven": (
            "lap the face once more",
            "regrind with a finer wheel",
            "dress the wheel and regrind",
            "regrind to the lower limit of thickness, or scrap",
        ),
    },
    cause_said=(
        "Probably caused by {cause}.",
        "Likely cause: {cause}.",
        "This points to {cause}.",
        "Cause: presumably {cause}.",
    ),
    repair_said=("Repair: {repair}.", "Recommended: {repair}.", "Next step: {repair}.", "{Repair}."),
    lengths=("About {size} of the side long.", "Its length is roughly {size} of the side.", "Length {size}."),
    areas=("It covers {size} of the surface.", "Area: {size} of the surface.", "Area {size}."),
    nothing="none",
    between=" ",
)

JAPANESE = Words(
    defects={
        "scratch": ("引っかき傷", "擦り傷", "スクラッチ"),
        "pit": ("ピット", "くぼみ", "小穴"),
        "stain": ("しみ", "変色", "汚れ"),
        "crack": ("亀裂", "クラック", "ひび割れ"),
        "blowhole": ("ブローホール", "気泡穴", "ガス穴"),
        "break": ("欠け", "欠損", "破損"),
        "fray": ("ほつれ", "毛羽立ち", "ささくれ"),
        "uneven": ("むら", "凹凸", "うねり"),
    },
    several={},
    places={
        "upper left": ("左上", "左上部", "左上寄り"),
        "top": ("上部", "上側", "上部中央"),
        "upper right": ("右上", "右上部", "右上寄り"),
        "left": ("左側", "左部", "左端寄り"),
        "centre": ("中央", "中央部", "中心付近"),
        "right": ("右側", "右部", "右端寄り"),
        "lower left": ("左下", "左下部", "左下寄り"),
        "bottom": ("下部", "下側", "下部中央"),
        "lower right": ("右下", "右下部", "右下寄り"),
    },
    severities={
        "minor": ("軽微", "軽度", "わずか"),
        "moderate": ("中程度", "中くらい", "やや目立つ"),
        "severe": ("重度", "重大", "著しい"),
    },
    endings={
        "軽微": "な",
        "軽度": "の",
        "わずか": "な",
        "中程度": "の",
        "中くらい": "の",
        "重度": "の",
        "重大": "な",
    },
    findings=(
        "{place}に{severity_}{defect}{count}。",
        "{place}に{severity_}{defect}あり。",
        "{place}に{defect}を確認。程度は{severity}。",
        "{severity_}{defect}を{place}に認める。",
        "{defect}を検出。位置は{place}、程度は{severity}。",
        "{place}に{defect}{count}見られる。{severity}と判断。",
    ),
    terse=(
        "{defect}、{place}、{severity}。",
        "{place}:{severity_}{defect}。",
        "{place}に{severity_}{defect}。",
    ),
    clean=(
        "異常なし。",
        "欠陥は見当たらず、良品。",
        "全面を確認したが異常なし。",
        "表面は良好。問題なし。",
        "良品と判断。問題なし。",
    ),
    clean_said=("異常なし", "問題なし", "見当たらず"),
    causes={
        "scratch": (
            "クランプ時の切粉の噛み込み",
            "搬送時の接触",
            "素手での取り扱い",
            "コンベアガイドの摩耗",
            "砥石の粗粒",
        ),
        "pit": ("鋳造時のガス巻き込み", "鋳型からの砂落ち", "保管時の湿気による腐食", "異物の押し込み"),
        "stain": (
            "研削液の乾き残り",
            "洗浄液の劣化",
            "指紋の付着",
            "すすぎ後の水滴残り",
            "研削時の局部過熱",
        ),
        "crack": (
            "急冷しすぎた焼入れ",
            "鋳造時の残留応力",
            "研削熱",
            "繰り返し荷重による疲労",
            "搬送時の衝撃",
        ),
        "blowhole": ("原料粉の湿気", "焼結時のガス抜け不良", "金型のガス抜き不足"),
        "break": ("治具への衝突", "移載時の落下", "クランプ力の過大"),
        "fray": ("刃先の摩耗", "抜け際の送り過大", "抜き型の摩耗"),
        "uneven": ("砥石の目詰まり", "研削代の偏り", "テーブルの振動"),
    },
    repairs={
        "scratch": ("手作業での磨き", "目に沿った研磨と再検査", "再研削と板厚の確認", "隔離のうえ再研削"),
        "pit": ("縁のばり取り後に合格", "充填と研磨", "穴が消えるまでの再研削", "廃棄と鋳込み温度の見直し"),
        "stain": (
            "アルコールでの拭き取り",
            "再洗浄と温風乾燥",
            "研削液の交換と再洗浄",
            "酸洗いとルーペでの再検査",
        ),
        "crack": (
            "浸透探傷後の出荷判定",
            "研削除去と浸透探傷",
            "焼なまし後の補修溶接",
            "廃棄と焼入れ条件の見直し",
        ),
        "blowhole": ("非シール面なら合格", "樹脂充填と研削", "含浸処理と漏れ試験", "廃棄と原料粉の追加乾燥"),
        "break": ("稜線の面取り", "面取りと寸法測定", "小型品への転用", "廃棄と治具の緩衝材追加"),
        "fray": ("ブラシでの除去", "縁の再仕上げ", "縁の再仕上げと刃物交換", "廃棄と抜き型の交換"),
        "uneven": (
            "ラップ仕上げの追加",
            "細目砥石での再研削",
            "ドレッシング後の再研削",
            "下限寸法までの再研削または廃棄",
        ),
    },
    cause_said=(
        "原因は{cause}と思われる。",
        "{cause}が疑われる。",
        "推定原因:{cause}。",
        "{cause}によるものか。",
    ),
    repair_said=(
        "対策:{repair}。",
        "処置として{repair}を推奨。",
        "{repair}が望ましい。",
        "{repair}を行うこと。",
    ),
    lengths=("長さは一辺の{size}。", "一辺の{size}に及ぶ。", "長さ{size}。"),
    areas=("面積は全体の{size}。", "表面の{size}を占める。", "面積{size}。"),
    nothing="なし",
    between="",
)

LANGUAGES: Mapping[str, Words] = {"en": ENGLISH, "ja": JAPANESE}
