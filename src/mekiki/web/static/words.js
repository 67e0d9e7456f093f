// Every word of the page, in both languages. [English, Japanese]
const WORDS = {
  skip: ["Skip to the content", "本文へ"], views: ["Views", "表示"], theme: ["Light or dark", "明・暗"],
  map: ["Map", "地図"], judge: ["Judge", "判定"], cases: ["Cases", "事例"], training: ["Training", "学習"], describe: ["Describe", "説明"],
  source: ["Vectors", "ベクトル"], colour: ["Colour by", "色分け"], label: ["label", "ラベル"], distance: ["distance", "距離"], verdict: ["verdict", "判定"],
  pan: ["Move", "移動"], lasso: ["Lasso", "投げ縄"], whole: ["Show all", "全体"], inView: ["Select what is in view", "見えている点を選ぶ"],
  mapLabel: ["Map of vectors: drag or arrow keys to move, wheel or + and - to zoom, 0 to show all", "ベクトルの地図：ドラッグか矢印キーで移動、ホイールか＋－で拡大縮小、0 で全体"],
  zoomIn: ["Zoom in", "拡大"], zoomOut: ["Zoom out", "縮小"], selection: ["Pictures of the selected points", "選んだ点の画像"],
  noMaps: ["No vectors yet. Calibrate with “mekiki calibrate RUN --ok DIR”, remember cases with “mekiki remember RUN DIR”, or serve with --vectors FILE.", "まだベクトルがありません。「mekiki calibrate RUN --ok DIR」「mekiki remember RUN DIR」または --vectors FILE をお使いください。"],
  selected: ["{0} selected", "{0} 点を選択"], more: ["and {0} more", "ほか {0} 点"], selectHint: ["Draw around points with the lasso to see their pictures here.", "投げ縄で点を囲むと、ここに画像が並びます。"],
  labelAs: ["Label as", "ラベル"], apply: ["Label", "付ける"], send: ["Send to cases", "事例に送る"], sent: ["{0} cases, {1} new", "事例 {0} 件、新規 {1} 件"], labelled: ["{0} labelled", "{0} 点にラベルを付けました"], undo: ["Undo", "元に戻す"],
  dropHere: ["Drop or paste photos here", "写真をここにドロップまたは貼り付け"], files: ["Choose photos", "写真を選ぶ"], folder: ["Choose a folder", "フォルダを選ぶ"],
  working: ["Judging… {0} of {1}", "判定中… {0} / {1}"], summary: ["{0} judged: {1} OK, {2} NG, {3} unreadable", "{0} 枚を判定：OK {1}、NG {2}、読めない {3}"], onlyNg: ["Hide OK", "OK を隠す"], unreadable: ["unreadable", "読めません"], noJudge: ["This run does not judge yet: run “mekiki calibrate RUN --ok DIR”.", "この run はまだ判定できません。「mekiki calibrate RUN --ok DIR」を実行してください。"],
  heat: ["Heat map", "ヒートマップ"], hist: ["Bars: distances of OK parts that set the threshold. This part {0}, threshold {1}", "棒：閾値を決めた良品の距離。この部品 {0}、閾値 {1}"], thisPart: ["this part", "この部品"], limit: ["threshold", "閾値"],
  score: ["distance {0}, p {1}", "距離 {0}、p値 {1}"], "why view": ["departs most in: {0}", "最も外れている所：{0}"], "why lesson": ["like one taught: {0}", "教えた写真に似ている：{0}"], "why taught": ["taught: {0}", "教えた通り：{0}"], both: ["{0}", "{1}"], keep: ["Keep as a case", "事例として残す"], nearOk: ["nearest OK", "最も近い OK"], nearNg: ["nearest NG", "最も近い NG"], none: ["none", "なし"],
  wrong: ["Wrong?", "違いますか？"], isOk: ["It is OK", "OK です"], isNg: ["It is NG", "NG です"], kind: ["kind of defect", "不良の種類"], taught: ["Taught: lesson {0}, {1} → {2}", "教えました：レッスン {0}、{1} → {2}"], undone: ["taken back", "取り消し済み"],
  words: ["Words", "言葉"], search: ["Search", "検索"], up: ["Thumb up: {0}", "良い：{0}"], down: ["Thumb down: {0}", "悪い：{0}"], history: ["History", "履歴"], noCases: ["No cases yet: remember some with “mekiki remember RUN DIR”, or send them from the map.", "まだ事例がありません。「mekiki remember RUN DIR」で覚えさせるか、地図から送ってください。"],
  searchHint: ["Drop a photo to see the past cases most like it.", "写真をドロップすると、似た過去の事例が出ます。"], noHistory: ["No thumbs yet.", "まだ評価がありません。"], found: ["Cases found", "見つかった事例"], asked: ["Most like", "似ているもの"],
  moved: ["Noted; {0} of those shown have another place", "記録しました。表示中 {0} 件の順位が変わりました"], unmoved: ["Noted; nothing moved (a thumb moves at most one in twenty of the cases)", "記録しました。順位は変わりません（1回の評価で動くのは事例の 20 分の 1 まで）"],
  data: ["Data", "データ"], recipe: ["Recipe", "レシピ"], loss: ["Loss", "損失"], encoder: ["Encoder", "エンコーダ"], dim: ["Dimensions", "次元"], margin: ["Margin", "マージン"], epochs: ["Epochs", "エポック数"], batch_size: ["Batch size", "バッチ"], lr: ["Learning rate", "学習率"], per_class: ["Images per class", "クラス毎の枚数"], size: ["Image size", "画像サイズ"], seed: ["Seed", "シード"],
  moreSettings: ["More settings", "詳しい設定"], play: ["Play", "再生"], pause: ["Pause", "一時停止"],
  start: ["Start", "開始"], stop: ["Stop", "停止"], resume: ["Resume", "再開"], epoch: ["Epoch {0} of {1}", "エポック {0} / {1}"], runs: ["Trainings", "学習一覧"], noRuns: ["No trainings yet: choose data and start one.", "まだ学習がありません。データを選んで開始してください。"], curve: ["Loss over epochs", "損失の推移"], scatter: ["Images after an epoch", "エポック後の画像"], train: ["training", "学習"], val: ["validation", "検証"],
  running: ["running", "実行中"], finished: ["finished", "完了"], stopped: ["stopped", "停止"], failed: ["failed", "失敗"], slider: ["Epoch", "エポック"], own: ["as recipe", "レシピ通り"],
  question: ["Question", "質問"], ask: ["Describe", "説明する"], cited: ["Cited cases", "引用した事例"], noDescriber: ["No describer has learnt from this run yet, so a template speaks: “mekiki describe-train RUN --texts CSV” makes one.", "この run にはまだ学習した説明器がないため、定型文で答えます。「mekiki describe-train RUN --texts CSV」で作れます。"],
  uncited: ["No past case is cited.", "引用した事例はありません。"], "speaker decoder": ["Said by the small decoder that learnt from this run’s texts.", "この run の文章から学んだ小さなデコーダの言葉です。"], "speaker language model": ["Said by the language model of this run.", "この run の言語モデルの言葉です。"], "speaker template": ["A template filled with the nearest cases.", "最も近い事例を当てはめた定型文です。"],
  answer: ["Description", "説明"],
};
let language = localStorage.getItem("mekiki.language") || (navigator.language.startsWith("ja") ? "ja" : "en");

export const current = () => language;
export function word(key, ...args) {
  const pair = WORDS[key];
  const said = pair ? pair[language === "ja" ? 1 : 0] : key;
  return said.replace(/\{(\d)\}/g, (_, n) => String(args[n]));
}
function translate(node) {
  const args = JSON.parse(node.dataset.args || "[]");
  if (node.dataset.t) node.textContent = word(node.dataset.t, ...args);
  if (node.dataset.label) node.setAttribute("aria-label", word(node.dataset.label, ...args));
}
export function say(node, key, ...args) {
  node.dataset.t = key;
  node.dataset.args = JSON.stringify(args);
  translate(node);
  return node;
}
export function named(node, key, ...args) {
  node.dataset.label = key;
  node.dataset.args = JSON.stringify(args);
  translate(node);
  return node;
}
export function setLanguage(next) {
  language = next;
  localStorage.setItem("mekiki.language", next);
  document.documentElement.lang = next;
  document.querySelectorAll("[data-t], [data-label]").forEach(translate);
}
