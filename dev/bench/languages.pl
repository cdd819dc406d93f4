#!/usr/bin/env perl
# languages.pl: counts letters and words of languages and writes the table of llmc/corpus/language.h. languages.sh runs it.
#
#   languages.pl ROOT TABLE.h HELD     ROOT: packages, unpacked; HELD: a folder for text that was not counted
#
# Text: man pages of each language (usr/share/man/LANG), messages of KDE (*.mo), for code what lies in this repository
# and in Perl's and Python's libraries. Every fifth file is not counted: it goes to HELD/CLASS.txt, pieces of about 1,000
# bytes, a form feed between them. Luxembourgish has few messages and Yiddish in Latin letters has none: the commonest
# words of these and of Low German stand below, each counted as often as its rank lets expect.
#
# Features, as in language.h: every three bytes of a word with a blank at both ends, and the word. A cell of the table is
# ln(P(feature | class) / mean of P over classes) in steps of 0.3 from -17 to 16, as a letter from ']' on.
use strict;
use warnings;

my ($root, $table, $held) = @ARGV;
@ARGV == 3 or die "usage: languages.pl ROOT TABLE.h HELD\n";
my ($SLOTS, $STEP, $SMOOTH) = (8192, 0.3, 4000);

# class => [languages of man pages], [languages of messages]
my @classes = (
    [de => ['de'],               ['de']],
    [nl => ['nl'],               ['nl', 'af', 'fy']],
    [nds => [],                  ['nds']],
    [lb => [],                   ['lb']],
    [yi => [],                   []],
    [da => ['da'],               ['da']],
    [sv => ['sv'],               ['sv']],
    [no => ['nb'],               ['nb', 'nn']],
    [en => ['.'],                ['en_GB']],
    [fr => ['fr'],               ['fr']],
    [es => ['es'],               ['es', 'ca', 'gl']],
    [it => ['it'],               ['it', 'ro']],
    [pt => ['pt_BR'],            ['pt', 'pt_BR']],
    [slav => ['pl', 'cs'],       ['pl', 'cs', 'sk', 'sl', 'hsb']],
    [other => ['fi', 'hu'],      ['fi', 'hu', 'et', 'is', 'tr', 'lt', 'lv']],
    [code => [],                 []],
);
my %words = (
    nds => 'de un dat in is to nich en mit för op den von ut bi as sik wi he se dor ok noch man wat dar ik hett weer hebbt
        sünd di mi em ehr us jo al nu wenn denn wo keen vun över ünner na vör mehr ward schall kann mutt wull kunn harr
        maken maakt seggt sä güng kaam keem lütt groot goot oold nee Lüüd Huus Tiet Dag Johr Jung Deern Fru Mann Kinner
        twee dree veer fief söss söven acht negen tein Water Weg Land Stadt Dörp Hoff Schip See Karkse Arbeit Spraak
        plattdüütsch snackt weet wies bruukt geiht steiht liggt löppt blifft gifft nimmt kümmt süht höört',
    lb => 'de an d der ass net mat vun fir och op ech eng en e mir dir hien si dat wat wéi wou elo awer dës dëst gëtt ginn
        gouf huet hunn sinn war waren méi scho schonn nach bei beim zu zum zur iwwer ënner tëscht no nom vum um am virun
        duerch ouni well wann datt soll kann muss däerf wëllen Leit Land Joer Lëtzebuerg lëtzebuergesch Stad Kanner Haus
        Zäit Deeg grouss kleng gutt nei al éischt zwee dräi véier fënnef sechs siwen néng zéng engem enger kee keng hir
        hire säin säi seng däin mäin mäi eis hinnen him hatt esou ganz vill wéineg ëmmer ni haut gëschter muer Schoul
        Strooss Dag Nuecht Fra Mann Meedchen Jong Liewen Welt Gemeng Regierung Presidentin Sproochen schwätzt seet geet
        kënnt mécht gesäit weess bleift läit steet gehéiert krut koum gung sot hat wier hätt géif kéint misst sollt
        Lëtzebuerger däitsch franséisch Europa Fréijoer Summer Hierscht Wanter',
    yi => 'di un der in iz dos fun a tsu mit nit nisht az hot af oyf ikh er zi mir ir zey vos far hobn zenen zikh dem den
        ober oykh nokh shoyn do dort itst geven gevezn gekumen gegangen gezogt zogt kumt geyt vi vu ven ver vayl tsi oder
        nor vet vel veln ken kenen muz muzn darf darfn vil zol zoln zayn zayne ire mayn mayne dayn undzer ayer eyn eyne
        tsvey dray finf zeks zibn akht nayn tsen alt nay groys kleyn gut shlekht sheyn mentsh mentshn yid yidn yidish
        yidishe shul bukh bikher kinder froy mame tate hoyz gas shtot velt lebn tog nakht yor tsayt vort verter shprakh
        zogn redn geyn kumen shraybn leyenen zingen lid lider kayn keyn ale alts epes keyner emetser bay fray khaver
        khaverim shabes haynt morgn nekhtn vayter tsurik aroys arayn aruf arop ahin aher amol take avade mistome azoy',
);

# A letter is a letter of ASCII, or a byte of a longer character that is not a sign (U+0080 to U+00BF, U+2000 to U+2FFF).
sub words_of {
    my ($text) = @_;
    $text =~ s/\xc2[\x80-\xbf]|\xe2[\x80-\xbf]{2}/ /g;
    $text =~ tr/A-Z/a-z/;
    $text =~ s/\xc3([\x80-\x96\x98-\x9e])/"\xc3" . chr(ord($1) + 32)/ge;
    return $text =~ /([a-z\x80-\xff]+)/g;
}
sub slot {
    my ($bytes, $hash) = @_;
    $hash = (($hash ^ $_) * 16777619) & 0xffffffff for unpack 'C*', $bytes;
    return ($hash ^ $hash >> 15) & ($SLOTS - 1);
}
my %slots_of; # of a word
sub features {
    my ($word) = @_;
    return $slots_of{$word} ||= do {
        my $padded = " $word ";
        [slot($word, 0x9e3779b9), map { slot(substr($padded, $_, 3), 2166136261) } 0 .. length($padded) - 3];
    };
}

my (%count, %total);
sub count {
    my ($class, $text, $times) = @_;
    for my $word (words_of($text)) {
        next if length $word > 60;
        $count{$class}[$_] += $times for @{features($word)};
        $total{$class} += $times * @{features($word)};
    }
}
sub slurp {
    my ($file) = @_;
    my $in;
    $file =~ /\.gz$/ ? open $in, '-|', 'gzip', '-dc', $file : open $in, '<:raw', $file or return '';
    local $/;
    return <$in> // '';
}
sub man {
    my ($text) = @_;
    $text = join "\n", grep { !/^[.']/ } split /\n/, $text;
    $text =~ s/\\f(?:\[[^\]]*\]|\(..|.)//g;
    $text =~ s/\\(?:\[[^\]]*\]|\(..|[-&])/ /g;
    return $text;
}
# Messages of a .mo file of either byte order: of the language, or the English ones.
sub messages {
    my ($bytes, $english) = @_;
    my $n = unpack('V', $bytes) == 0x950412de ? 'V' : 'N';
    my (undef, undef, $strings, $from, $to) = unpack "${n}5", $bytes;
    my $at = $english ? $from : $to;
    my @texts;
    for my $i (1 .. $strings - 1) { # the first is about the file
        my ($size, $place) = unpack "${n}2", substr $bytes, $at + 8 * $i, 8;
        my $text = substr $bytes, $place, $size;
        $text =~ s/.*\x04//s; # its context
        $text =~ s/<[^>]*>|&[a-z]+;|%\S*/ /g;
        $text =~ tr/&\0_/  /d;
        push @texts, $text if length $text > 12;
    }
    return join "\n", @texts;
}

my %held;
sub take {
    my ($class, $file, $text) = @_;
    $text =~ s/\f/ /g;
    if (unpack('%32C*', $file =~ s/.*\///r) % 5) { count($class, $text, 1); return }
    my $piece = '';
    for my $line (split /\n/, $text) {
        $piece .= "$line\n";
        next if length $piece < 1000;
        push @{$held{$class}}, $piece;
        $piece = '';
    }
}
my @mo = sort grep { !/\s/ } split /\n/, `find $root -name '*.mo'`;
for (@classes) {
    my ($class, $pages, $languages) = @$_;
    for my $language (@$pages) {
        take($class, $_, man(slurp($_))) for sort glob "$root/usr/share/man/$language/man*/*.gz";
    }
    for my $language (@$languages) {
        take($class, $_, messages(slurp($_), 0)) for grep { m{/locale/\Q$language\E/} } @mo;
    }
    my $rank = 0;
    count($class, $_, 1 + int(6000 / (5 + $rank++))) for split ' ', $words{$class} // '';
}
chomp(my @code = `git ls-files '*.c' '*.h' '*.cu' '*.sh' '*.pl' Makefile; find /usr/share/perl /usr/lib/python3 -name '*.pm' -size -64k -o -name '*.py' -size -64k | sort | awk 'NR % 9 == 0'`);
take('code', $_, slurp($_)) for grep { !/unicode\.h|language_table/ } @code;

for my $class (sort keys %held) {
    open my $out, '>:raw', "$held/$class.txt" or die "languages.pl: $held/$class.txt: $!\n";
    print $out join "\f", @{$held{$class}};
}
my @names = map { $_->[0] } @classes;
print "$_ $total{$_}\n" for @names;
my @rows;
for my $slot (0 .. $SLOTS - 1) {
    my $mean = 0;
    $mean += ($count{$_}[$slot] // 0) / $total{$_} / @names for @names;
    $mean += 1 / $SLOTS / 1000;
    push @rows, join '', map {
        my $p = (($count{$_}[$slot] // 0) + $SMOOTH * $mean) / ($total{$_} + $SMOOTH);
        my $step = int(log($p / $mean) / $STEP + 100.5) - 100;
        $step = 16 if $step > 16;
        $step = -17 if $step < -17;
        chr(ord(']') + 17 + $step);
    } @names;
}
open my $out, '>', $table or die "languages.pl: $table: $!\n";
print $out <<'END';
/*
language_table.h: how much more often a feature stands in a class of text than in the mean of all. Made by
dev/bench/languages.sh from counts; language.h reads it.
*/
#ifndef LLMC_LANGUAGE_TABLE_H
#define LLMC_LANGUAGE_TABLE_H

// clang-format off
END
print $out "#define LANGUAGES(X)", (map { " X($_)" } @names), "\n";
print $out "// (slots / 6, 6 slots of a letter for each class)\nstatic const char language_table[][97] = {\n";
push @rows, ']' x @names while @rows % 6;
while (my @six = splice @rows, 0, 6) { print $out '"', @six, "\",\n" }
print $out "};\n// clang-format on\n\n#endif\n";
close $out or die "languages.pl: $table: $!\n";
