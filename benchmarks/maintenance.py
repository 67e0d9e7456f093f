"""Maintenance notes with approved and rejected countermeasures, in many wordings, English or Japanese; and queries."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

FAULTS = (
    ("hydraulic pump", "leaks oil at the shaft", "shaft seal", "油圧ポンプの軸から油が漏れる", "軸シール"),
    ("spindle", "runs hot and whines", "front bearing", "主軸が熱くなり異音がする", "前側軸受"),
    ("conveyor", "drifts to the left", "belt", "コンベヤが左に寄る", "ベルト"),
    ("coolant pump", "loses pressure", "impeller", "クーラントポンプの圧力が落ちる", "羽根車"),
    ("gear box", "knocks under load", "intermediate gear", "減速機が負荷時に打音を出す", "中間歯車"),
    (
        "air cylinder",
        "creeps back after stopping",
        "piston seal",
        "エアシリンダが停止後に戻る",
        "ピストンシール",
    ),
    ("servo drive", "trips with overcurrent", "encoder cable", "サーボが過電流で止まる", "エンコーダ線"),
    ("press die", "leaves burrs", "cutting edge", "金型でバリが出る", "切れ刃"),
    ("grinding wheel", "burns the tiles", "dressing diamond", "研削砥石で焼けが出る", "ドレッサ"),
    ("feed chute", "jams with parts", "guide rail", "供給シュートで部品が詰まる", "ガイドレール"),
    ("vacuum gripper", "drops the part", "suction cup", "吸着ハンドが部品を落とす", "吸着パッド"),
    ("heater zone 3", "does not reach temperature", "heater band", "ヒータ3が昇温しない", "バンドヒータ"),
    ("limit switch", "sends a double signal", "roller lever", "リミットスイッチが二重に入る", "ローラレバー"),
    ("inspection lamp", "flickers", "power supply", "検査照明がちらつく", "電源"),
    ("chuck", "clamps off centre", "jaw", "チャックの芯がずれる", "爪"),
    ("dosing valve", "gives too much glue", "needle tip", "接着剤の吐出が多い", "ニードル"),
    ("kiln fan", "vibrates at full speed", "rotor", "炉のファンが振動する", "ロータ"),
    ("robot wrist", "shows backlash", "wave gear", "ロボット手首にガタがある", "波動歯車"),
    (
        "door interlock",
        "opens the safety circuit",
        "magnet contact",
        "扉インタロックが誤動作する",
        "磁気接点",
    ),
    ("water chiller", "reports low flow", "strainer", "チラーが流量低下を出す", "ストレーナ"),
    ("screw feeder", "stalls at start", "coupling", "スクリューフィーダが起動時に止まる", "カップリング"),
    ("label printer", "smears the code", "print head", "ラベルの印字がにじむ", "印字ヘッド"),
    ("lift table", "sinks overnight", "check valve", "昇降台が夜の間に下がる", "逆止弁"),
    ("dust collector", "loses suction", "filter bag", "集塵機の吸引が弱い", "ろ布"),
)
"""Machine, what is wrong, the part it comes from; the first two and the last in Japanese."""

APPROVED = (
    (
        "fitted a new {part}, aligned it with a dial gauge and ran it an hour under load",
        "{part}を新品に替え、芯出しをして一時間負荷運転した",
    ),
    (
        "{part} renewed after measuring the wear; torque set as on the drawing",
        "摩耗を測って{part}を交換、図面のトルクで締めた",
    ),
    (
        "traced it to the {part}, exchanged it and added it to the monthly check list",
        "原因は{part}と判明、交換して月例点検に追加した",
    ),
    (
        "root cause was a worn {part}. New one installed, first ten pieces measured",
        "真因は{part}の摩耗。新品を取り付け、初品十個を測定した",
    ),
    (
        "took the machine out of service, replaced the {part} and verified against the master",
        "機械を止めて{part}を交換し、マスタで確認した",
    ),
    (
        "ordered and mounted an original {part}; trend of the week after shows no change",
        "純正の{part}を取り付け、翌週の傾向に変化なし",
    ),
    (
        "{part} changed by the maintenance crew, values before and after are in the sheet",
        "保全班が{part}を交換、前後の値を記録した",
    ),
    (
        "dismantled, found the {part} scored, machined the seat and put in a fresh one",
        "分解して{part}の傷を確認、座面を加工し新品を入れた",
    ),
    (
        "corrected the mounting so that the {part} no longer wears, then exchanged it",
        "{part}が摩耗しないよう取付を直し、交換した",
    ),
    (
        "installed the improved {part} after the supplier's report and rewrote the standard",
        "メーカ報告をもとに改良型{part}を付け、標準書を改訂した",
    ),
    (
        "swapped the {part} for a hardened version, capability confirmed with fifty parts",
        "焼入れ品の{part}に替え、五十個で工程能力を確認した",
    ),
    (
        "repaired properly: {part} and its neighbours cleaned, replaced, calibrated",
        "{part}と周辺を清掃、交換、校正して正しく直した",
    ),
    (
        "cause analysis with five whys ended at the {part}; renewed, lubrication plan changed",
        "なぜなぜ分析で{part}に到達、交換し給油計画も変えた",
    ),
    (
        "exchange of the {part} done in the planned stop, acceptance run signed by quality",
        "計画停止で{part}を交換、品質部門が立会い確認した",
    ),
    (
        "new {part} with spare put in stock, alignment protocol attached",
        "{part}を新品にし予備も在庫、芯出し記録を添付した",
    ),
    (
        "the {part} was out of tolerance, replaced it and re-qualified the station",
        "{part}が公差外のため交換し、工程を再認定した",
    ),
)
REJECTED = (
    ("wrapped tape round the {part} and restarted", "{part}にテープを巻いて再起動した"),
    ("reset the alarm, nothing else done", "警報をリセットしただけ"),
    ("turned the alarm limit up so that it stays quiet", "警報の限界値を上げて鳴らないようにした"),
    ("hit the {part} with a mallet until it went again", "{part}をハンマで叩いて動かした"),
    ("bridged the {part} for the night shift and carried on", "夜勤の間{part}を短絡して続けた"),
    ("sprayed some oil on the {part}, let it run till the weekend", "{part}に油を吹いて週末まで回した"),
    ("tied the {part} up with wire, looks fine for now", "{part}を針金で縛った、今のところ大丈夫"),
    ("slowed the line down and kept going with the old {part}", "速度を落とし古い{part}のまま続けた"),
    ("put a bucket under it and told the next shift to watch", "下に受け皿を置き次の直に任せた"),
    ("stuffed cardboard behind the {part} as a quick fix", "{part}の後ろに厚紙を詰めて応急処置"),
    ("switched it off and on again, problem did not come back so far", "電源を入れ直した、今は再発なし"),
    ("cranked the pressure up to get over it", "圧力を上げてごまかした"),
    ("ignored it, the customer will not notice", "客先では分からないので放置"),
    ("used a {part} from the scrap box to keep it going", "廃品箱の{part}を使ってしのいだ"),
    ("glued the {part} in place without cleaning, no time", "時間がなく清掃せず{part}を接着した"),
    ("disconnected the sensor at the {part} and ran by hand", "{part}のセンサを外し手動で運転した"),
)
OPENINGS = (
    ("{machine} {fault}: {what}.", "{fault}。{what}。"),
    ("Line {line}, {machine} {fault}. We {what}.", "{line}号ライン、{fault}。{what}。"),
    ("{shift} shift. {machine} {fault} again. {what}.", "{shift}直、{fault}。{what}。"),
    ("Report {number}: the {machine} {fault}; {what}.", "報告{number}、{fault}、{what}。"),
    ("{what} - because the {machine} {fault}.", "{what}（{fault}ため）。"),
    ("Complaint: {machine} {fault}. Action: {what}.", "不具合、{fault}。処置、{what}。"),
)
QUESTIONS = (
    ("The {machine} {fault}, what should be done?", "{fault}、どうすればよいか"),
    ("{machine} {fault}", "{fault}"),
    ("how was it solved when the {machine} {fault}?", "{fault}とき、どう直したか"),
    ("countermeasure for: {machine} {fault}", "{fault}の対策"),
    ("line {line}: {machine} {fault}, need help", "{line}号ラインで{fault}、助けてほしい"),
)
FAMILIAR = 10
"""Wordings of countermeasures that topics to learn from use; the others use all of them."""


@dataclass(frozen=True)
class Notes:
    """A set of notes and queries.

    Attributes:
        texts: the notes.
        topics: of each, which fault.
        approved: of each, whether its countermeasure was.
        queries: what people ask.
        asked: of each query, which fault.
    """

    texts: list[str]
    topics: np.ndarray
    approved: np.ndarray
    queries: list[str]
    asked: np.ndarray


def maintenance_notes(each: int = 10, *, japanese: bool = False, seed: int = 0) -> Notes:
    """So many approved and as many rejected notes a fault (no two alike), and some queries a fault.

    Even faults, to learn from, use only the first `FAMILIAR` wordings of either kind.
    """
    rng = np.random.default_rng(seed)
    tongue = int(japanese)
    texts: list[str] = []
    topics, approved, asked = [], [], []
    queries: list[str] = []

    def filled(template: str, topic: int, **more: str) -> str:
        machine, fault, part, fault_ja, part_ja = FAULTS[topic]
        said = template.format(
            machine=machine,
            fault=(fault, fault_ja)[tongue],
            part=(part, part_ja)[tongue],
            line=rng.integers(1, 9),
            number=rng.integers(1000, 9999),
            shift=str(rng.choice(("Night", "Early", "Late") if not japanese else ("夜", "早", "遅"))),
            **more,
        )
        return said[0].upper() + said[1:]

    for topic in range(len(FAULTS)):
        wordings = FAMILIAR if topic % 2 == 0 else len(APPROVED)
        for good, countermeasures in ((True, APPROVED), (False, REJECTED)):
            known: set[str] = set()
            while len(known) < each:
                what = countermeasures[rng.integers(wordings)][tongue]
                done = what.format(part=FAULTS[topic][4 if japanese else 2])
                note = filled(OPENINGS[rng.integers(len(OPENINGS))][tongue], topic, what=done)
                if note not in known:
                    known.add(note)
                    texts.append(note)
                    topics.append(topic)
                    approved.append(good)
        for question in QUESTIONS:
            queries.append(filled(question[tongue], topic))
            asked.append(topic)
    return Notes(texts, np.array(topics), np.array(approved), queries, np.array(asked))


def write_notes(path: Path, *, japanese: bool = False, seed: int = 0) -> None:
    """The notes as `mekiki remember` reads them: columns label (approved, makeshift) and note."""
    notes = maintenance_notes(japanese=japanese, seed=seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("label", "note"))
        rows.writerows(
            ("approved" if good else "makeshift", text)
            for good, text in zip(notes.approved, notes.texts, strict=True)
        )


if __name__ == "__main__":
    typer.run(write_notes)
