// All texts of the page in both languages: [English, Japanese]. {0} is the first argument; {0 case|cases} adds its noun.
const TEXTS = {
  skip: ["Skip to the content", "本文へ移動"], views: ["Views", "画面の切り替え"], theme: ["Dark mode", "ダーク表示"],
  map: ["Map", "分布図"], judge: ["Judge", "判定"], cases: ["Cases", "事例"], training: ["Training", "学習"], describe: ["Describe", "説明"],
  source: ["Vectors", "表示データ"], colour: ["Colour by", "色分け"], label: ["label", "ラベル"], distance: ["distance", "距離"], verdict: ["verdict", "判定"],
  pan: ["Move", "移動"], lasso: ["Lasso", "囲んで選択"], whole: ["Show all", "全体表示"], inView: ["Select all in view", "表示中の点を選択"],
  mapLabel: ["Map of vectors: drag or arrow keys to move, wheel or + and - to zoom, 0 to show all", "ベクトルの分布図：ドラッグまたは矢印キーで移動、ホイールまたは + と - で拡大・縮小、0 で全体表示"],
  zoomIn: ["Zoom in", "拡大"], zoomOut: ["Zoom out", "縮小"], selection: ["Pictures of the selected points", "選択した点の画像"],
  noMaps: ["Nothing to show yet. Calibrate with “mekiki calibrate RUN --ok DIR”, add cases with “mekiki remember RUN DIR”, or start with “mekiki serve RUN --vectors FILE”.", "表示できるデータがまだありません。「mekiki calibrate RUN --ok DIR」で校正するか、「mekiki remember RUN DIR」で事例を保存するか、「mekiki serve RUN --vectors FILE」で起動してください。"],
  selected: ["{0} selected", "{0} 点を選択中"], more: ["and {0} more", "ほか {0} 点"], selectHint: ["Draw around points with the lasso to see their pictures here.", "「囲んで選択」で点を囲むと、ここに画像が表示されます。"],
  labelAs: ["Label as", "ラベル"], apply: ["Label", "ラベルを付ける"], send: ["Save as cases", "事例として保存"], sent: ["{0 case|cases} saved, {1} new", "事例に {0} 件保存しました（新規 {1} 件）"], labelled: ["{0 point|points} labelled", "{0} 点にラベルを付けました"], undo: ["Undo", "元に戻す"],
  dropHere: ["Drop or paste photos here", "写真をここにドロップ、または貼り付け"], files: ["Choose photos", "写真を選択"], folder: ["Choose a folder", "フォルダを選択"],
  working: ["Judging… {0} of {1}", "判定中… {0} / {1}"], summary: ["{0} judged: {1} OK, {2} NG, {3} unreadable", "{0} 枚を判定：OK {1}、NG {2}、読込不可 {3}"], onlyNg: ["Hide OK", "OK を隠す"], unreadable: ["unreadable", "読込不可"], noJudge: ["This run has no judge yet: run “mekiki calibrate RUN --ok DIR”.", "この検査設定ではまだ判定できません。「mekiki calibrate RUN --ok DIR」を実行してください。"],
  heat: ["Anomaly map", "異常マップ"], hist: ["Bars: scores of the OK parts that set the threshold. This part {0}, threshold {1}", "棒グラフ：しきい値の決定に使った良品の異常度。この部品 {0}、しきい値 {1}"], thisPart: ["this part", "この部品"], limit: ["threshold", "しきい値"],
  score: ["score {0}, p {1}", "異常度 {0}、p 値 {1}"], "why view": ["largest deviation in: {0}", "最も外れている特徴量：{0}"], "why lesson": ["similar to a corrected photo: {0}", "訂正した写真に類似：{0}"], "why taught": ["corrected: {0}", "訂正済み：{0}"], both: ["{0}", "{1}"], keep: ["Save as case", "事例として保存"], nearOk: ["nearest OK", "最も近い良品"], nearNg: ["nearest NG", "最も近い不良品"], none: ["none", "なし"],
  wrong: ["Correct the verdict", "判定を訂正"], isOk: ["Mark OK", "良品にする"], isNg: ["Mark NG", "不良にする"], kind: ["defect type", "不良の種類"], taughtCopies: ["Saved: correction {0}, {1} → {2}. It acts on near copies of the photo only", "訂正 {0} を保存しました：{1} → {2}。この写真とほぼ同じ写真だけに作用します"],
  taughtCopiesWeighed: ["Saved: correction {0}, {1} → {2}. It acts on near copies of the photo only; of {3} other NG parts {4} were missed before, {5} after", "訂正 {0} を保存しました：{1} → {2}。この写真とほぼ同じ写真だけに作用します。他の不良品 {3} 個の見逃し：{4} 個 → {5} 個"],
  taughtAlike: ["Saved: correction {0}, {1} → {2}. It acts on parts like it", "訂正 {0} を保存しました：{1} → {2}。似た部品にも作用します"],
  taughtAlikeWeighed: ["Saved: correction {0}, {1} → {2}. It acts on parts like it; of {3} other NG parts {4} were missed before, {5} after", "訂正 {0} を保存しました：{1} → {2}。似た部品にも作用します。他の不良品 {3} 個の見逃し：{4} 個 → {5} 個"],
  undone: ["Undone", "取り消しました"],
  words: ["Text", "検索文"], search: ["Search", "検索"], up: ["Thumb up: {0}", "参考になる：{0}"], down: ["Thumb down: {0}", "参考にならない：{0}"], history: ["History", "履歴"], noCases: ["No cases yet: add some with “mekiki remember RUN DIR”, or save them from the map.", "事例がまだありません。「mekiki remember RUN DIR」で保存するか、分布図から保存してください。"],
  searchHint: ["Drop a photo to see similar past cases.", "写真をドロップすると、似た過去の事例が表示されます。"], noHistory: ["No feedback yet.", "評価はまだありません。"], found: ["Cases found", "検索結果"], asked: ["Similar cases", "この写真に似た事例"],
  moved: ["Saved; {0} of the cases shown changed rank", "記録しました。表示中の {0} 件の順位が変わりました"], unmoved: ["Saved; no rank changed (one thumb moves at most one in twenty of the cases)", "記録しました。順位は変わりません（1 回の評価で順位が動くのは全事例の 20 分の 1 まで）"],
  data: ["Data", "データ"], recipe: ["Recipe", "レシピ"], loss: ["Loss", "損失関数"], encoder: ["Encoder", "エンコーダ"], dim: ["Dimensions", "次元数"], margin: ["Margin", "マージン"], epochs: ["Epochs", "エポック数"], batch_size: ["Batch size", "バッチサイズ"], lr: ["Learning rate", "学習率"], per_class: ["Images per class", "クラスごとの枚数"], size: ["Image size", "画像サイズ"], seed: ["Seed", "乱数シード"],
  moreSettings: ["More settings", "詳しい設定"], play: ["Play", "再生"], pause: ["Pause", "一時停止"],
  start: ["Start", "開始"], stop: ["Stop", "停止"], resume: ["Resume", "再開"], epoch: ["Epoch {0} of {1}", "エポック {0} / {1}"], runs: ["Trainings", "学習一覧"], noRuns: ["No trainings yet: choose data and start one.", "学習はまだありません。データを選んで開始してください。"], curve: ["Loss per epoch", "損失の推移"], scatter: ["Embedding of the images after an epoch", "エポック終了時の画像の埋め込み"], train: ["training", "学習"], val: ["validation", "検証"],
  running: ["running", "実行中"], finished: ["finished", "完了"], stopped: ["stopped", "停止"], failed: ["failed", "失敗"], slider: ["Epoch", "エポック"], own: ["recipe default", "レシピの既定値"],
  question: ["Question", "質問"], ask: ["Describe", "説明する"], cited: ["Cited cases", "引用した事例"], noDescriber: ["This run has no describer yet, so a template answers: “mekiki describe-train RUN --texts CSV” trains one.", "この検査設定には学習済みの説明モデルがまだないため、定型文で答えます。「mekiki describe-train RUN --texts CSV」で学習できます。"],
  uncited: ["No past case is cited.", "引用した事例はありません。"], "speaker decoder": ["Written by the small decoder trained on this run’s texts.", "この検査設定の文章で学習した小型モデルが書いた文です。"], "speaker language model": ["Written by the language model of this run.", "この検査設定の言語モデルが書いた文です。"], "speaker template": ["Template filled in from the nearest cases.", "最も近い事例を定型文に当てはめた文です。"],
  answer: ["Description", "説明文"],
};
let language = localStorage.getItem("mekiki.language") || (navigator.language.startsWith("ja") ? "ja" : "en");

export const currentLanguage = () => language;
export function text(key, ...args) {
  const pair = TEXTS[key];
  const template = pair ? pair[language === "ja" ? 1 : 0] : key;
  return template.replace(/\{(\d)(?: (\w+)\|(\w+))?\}/g, (_, n, one, many) => (one ? `${args[n]} ${args[n] === 1 ? one : many}` : String(args[n])));
}
function translate(node) {
  const args = JSON.parse(node.dataset.args || "[]");
  if (node.dataset.t) node.textContent = text(node.dataset.t, ...args);
  if (node.dataset.label) node.setAttribute("aria-label", text(node.dataset.label, ...args));
}
export function setText(node, key, ...args) {
  node.dataset.t = key;
  node.dataset.args = JSON.stringify(args);
  translate(node);
  return node;
}
export function setAriaLabel(node, key, ...args) {
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
