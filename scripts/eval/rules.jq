# rules.jq: what the scripts here do to texts, as Python and lm-evaluation-harness do it; put before a script's own program.

# str.strip(): by the same white space.
def is_space: (. >= 9 and . <= 13) or (. >= 28 and . <= 32) or . == 133 or . == 160 or . == 5760 or (. >= 8192 and . <= 8202)
    or . == 8232 or . == 8233 or . == 8239 or . == 8287 or . == 12288;
def strip: explode | until(length == 0 or (.[0] | is_space | not); .[1:]) | until(length == 0 or (.[-1] | is_space | not); .[:-1]) | implode;

# str.lower() and the first letter of str.capitalize(), for Latin, Greek and Cyrillic letters.
def lower: explode | map(
    if (. >= 65 and . <= 90) or (. >= 192 and . <= 222 and . != 215) or (. >= 913 and . <= 939 and . != 930) or (. >= 1040 and . <= 1071) then . + 32
    elif . >= 1024 and . <= 1039 then . + 80
    elif . == 7838 then 223
    elif . == 376 then 255
    elif ((. >= 256 and . <= 310 and . != 304) or (. >= 330 and . <= 374)) and . % 2 == 0 then . + 1
    elif ((. >= 313 and . <= 327) or (. >= 377 and . <= 381)) and . % 2 == 1 then . + 1
    else . end) | implode;
def title: explode | map(
    if . == 223 then 83, 115
    elif (. >= 97 and . <= 122) or (. >= 224 and . <= 254 and . != 247) or (. >= 945 and . <= 971 and . != 962) or (. >= 1072 and . <= 1103) then . - 32
    elif . >= 1104 and . <= 1119 then . - 80
    elif . == 255 then 376
    elif ((. >= 257 and . <= 311 and . != 305) or (. >= 331 and . <= 375)) and . % 2 == 1 then . - 1
    elif ((. >= 314 and . <= 328) or (. >= 378 and . <= 382)) and . % 2 == 0 then . - 1
    else . end) | implode;
def capitalize: (.[:1] | title) + (.[1:] | lower);

def replace($from; $to): split($from) | join($to);

# HellaSwag's and ARC's: marks of the WikiHow texts go.
def preprocess: strip | replace(" [title]"; ". ") | gsub("\\[.*?\\]"; "") | replace("  "; " ");

# PAWS-X: the blanks between words and punctuation go.
def detokenize: replace(" n't"; "n't") | replace(" )"; ")") | replace("( "; "(") | replace("\" "; "\"") | replace(" \""; "\"") | gsub(" (?<sign>['.,])"; "\(.sign)");

# The row, if it has all of these columns.
def with($columns): . as $row | ($columns | map(select($row[.] == null))) as $missing
    | if $missing == [] then . else error("a row has no \($missing | join(", ")): \(tojson[:200])") end;

def letter($letters): . as $letter | ($letters | index($letter)) // error("the answer \($letter | tojson) is none of \($letters | join(", "))");
