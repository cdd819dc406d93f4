#!/usr/bin/perl
# german_text.pl: turns the formats that documentation comes in into clean German text.
#
#   german_text.pl OUT_DIR < PLAN        PLAN: lines `name TAB kind TAB file or folder`
#   for each line writes OUT_DIR/name.txt: UTF-8, NFC, documents separated by a line that holds one
#   form feed, paragraphs by an empty line, a paragraph (or list item) never wrapped.
#   On stdout a line each: name TAB documents TAB paragraphs seen TAB kept TAB bytes TAB SHA-256.
#
# Kinds: man          a folder with man/de/manN/*.gz (needs mandoc)
#        html         a folder of HTML pages; navigation, tables of contents, indexes are left out
#        libreoffice  HTML, only what is in div id="DisplayArea"
#        xml          a folder of Mallard pages or DocBook files (help/de)
#        apt          a list Translation-de, uncompressed: package descriptions
#        mo           a folder with .mo files (needs msgunfmt): the translations in them
#        fortune      a folder of fortune files: documents separated by a line with %
#        text         a file or folder of plain text; form feeds separate documents
#
# What a paragraph must pass: enough German function words, umlauts and endings, clearly more than
# English ones; mostly letters; not seen before in any source of the same plan (compared without
# case, digits and punctuation). Code is left out, unless it is short and a sentence announces it
# with a colon. A heading stays if something under it stays.
#
# The result depends on the input alone: files are taken in the order of their names' bytes.
# Needs: perl with its core modules (Debian: perl, not perl-base alone).
use strict;
use warnings;
use utf8;
use Digest::MD5  qw(md5);
use Digest::SHA  ();
use Encode       qw(decode encode FB_DEFAULT);
use File::Find   ();
use Unicode::Normalize qw(NFC checkNFC);

# A name from a package's files cannot add lines or escape sequences to the message.
$SIG{__DIE__} = sub { return if $^S; my $why = $_[0]; $why =~ s/\s*\z//; $why =~ s/[[:cntrl:]]/?/g; print STDERR "german_text.pl: $why\n"; exit 1 };

# ------------------------------------------------------------------ is it German?

my %german = map { $_ => 1 } qw(
  aber alle allem allen aller alles als also am an andere anderen anderer anderes auch auf aus außer
  bei beim bereits bevor beide beiden bis bitte da dabei dafür daher damit danach dann daran darauf
  darf das dass davon dazu dem den denen denn der deren des dessen deshalb die dies diese diesem
  diesen dieser dieses doch dort du durch dürfen ein eine einem einen einer eines einige einigen
  entweder er erst es etwa etwas euch falls für gegen gibt haben hat hatte hier hinter ihm ihn ihnen
  ihr ihre ihrem ihren ihrer ihres im immer in indem ins ist ja jede jedem jeden jeder jedes jedoch
  jetzt kann kein keine keinem keinen keiner können könnte lassen lässt man mehr mehrere meist mit
  muss müssen nach nachdem neben nicht nichts noch nun nur ob oben oder ohne sehr sein seine seinem
  seinen seiner seit sich sie siehe sind so sobald sofern solche solchen soll sollen sollte sollten
  somit sondern sonst sowie statt über um und uns unter viele vom von vor wann war waren was weil
  weitere weiteren welche welchen welcher wenn wer werden wie wieder wird wir wo wobei wurde wurden
  während zu zum zur zwischen zwar ich mir mich dir dich nein wohl schon ganz
  verwendet verwenden folgende folgenden folgender beispiel angegeben angegebene angegebenen anzeigen
  ausgabe befehl befehle benutzer datei dateien daten eingabe enthält erstellt geben gemäß legt liest nutzt optionen
  schreibt setzt stellt unterstützt verzeichnis voreinstellung vorgabe vorherige wert werte zeichen zeigt zeile zeilen);
my %english = map { $_ => 1 } qw(
  the of and is to for that with this are be not you it can by on as if from or at your which will
  when has have any all its other may should must use used using then than more only into no there
  these those their they would could been were but do does set see value specified default returns);
my %both = map { $_ => 1 } qw(in an am so was man war also hat);  # too weak alone as a proof

sub language_score {    # (words, German hits, English hits)
    my ($text) = @_;
    my ( $n, $de, $en ) = ( 0, 0, 0 );
    while ( $text =~ /(\p{L}{2,})/g ) {
        my $word = lc $1;
        $n++;
        if    ( $german{$word} )  { $de += $both{$word} ? 0.5 : 1 }
        elsif ( $english{$word} ) { $en++ }
        elsif ( $word =~ /[äöüß]|(?:ung|ungen|heit|keit|lich|liche[nrs]?|ische[nrs]?|iert|ieren|schaft)$/ ) { $de += 0.5 }
    }
    return ( $n, $de, $en );
}

sub is_german {
    my ($text) = @_;
    my ( $n, $de, $en ) = language_score($text);
    return 0 if $text =~ m{^(?:/\*|//|#include|\{)};    # a program whose comments are German
    return 0 if $n < 3 || $de < 1 || $de <= 2 * $en || $de < ( $en ? 0.15 : 0.12 ) * $n;
    my $lines   = 1 + $text =~ tr/\n//;
    my $program = () = $text =~ /[;{}]$/mg;
    return 0 if $program > 1 && $program * 3 > $lines;
    my $letters = () = $text =~ /[\p{L} ]/g;
    return $letters >= 0.72 * length $text;
}

# ------------------------------------------------------------------ one paragraph's characters

sub tidy {
    my ($text) = @_;
    $text =~ tr/\x{a0}\x{2007}\x{202f}\x{2002}-\x{2006}\x{2008}-\x{200a}\t/ /;
    $text =~ tr/\x{2010}\x{2011}/--/;
    $text =~ s/[\x{ad}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}\x{feff}\x{fffd}\x{e000}-\x{f8ff}\x{00}-\x{09}\x{0b}-\x{1f}\x{7f}-\x{9f}]//g;
    $text =~ s/ +/ /g;
    $text =~ s/ ?\n ?/\n/g;
    $text =~ s/\n+/\n/g;
    $text =~ s/^\s+|\s+$//g;
    $text =~ s/(?<=\p{L}) (?=[,;.!?](?:\s|$))//g;    # left behind where markup ended
    $text =~ s/([.!?]) [.](?=\s|$)/$1/g;
    $text =~ s/ ?\[\d{1,2}\](?=[\s.,;:)]|$)//g;      # marks of footnotes
    $text = NFC($text) unless checkNFC($text);
    return $text;
}

# ------------------------------------------------------------------ from blocks to a document

# A block is [kind, text, level]. Kinds: h heading, p paragraph, l list item or table row, c code.
my %seen;
my ( $paragraphs, $kept );

sub new_paragraph {    # false: it was seen before
    my $key = lc shift;
    $key =~ s/^[^\n]*\n(?=.*\S{3})//s if $key =~ /^([^\n]+)\n/ && !is_german($1);    # a term: its explanation decides
    $key =~ s/[^\p{L}]+//g;
    return !$seen{ md5( encode( 'UTF-8', $key ) ) }++;
}

sub document {
    my @blocks = @_;
    my ( @heads, $out, $last, $drop );
    ( $out, $last ) = ( '', '' );
    my $length = 0;
    for ( my $i = 0 ; $i < @blocks ; ) {
        my ( $kind, $text, $level ) = @{ $blocks[$i] };
        if ( $kind eq 'h' ) {
            $i++;
            $text = tidy($text);
            $text =~ s/\n/ /g;
            next if $text eq '';
            pop @heads while @heads && $heads[-1][1] >= $level;
            push @heads, [ $text, $level ];
            $last = '';
            next;
        }
        # Neighbouring list items are judged together: one alone is often too short to show its language.
        my $j = $i + 1;
        if ( $kind eq 'l' ) { $j++ while $j < @blocks && $blocks[$j][0] eq 'l' }
        my @items = grep { $_ ne '' && $_ ne '-' } map { tidy( $_->[1] ) } @blocks[ $i .. $j - 1 ];
        $i = $j;
        next unless @items;
        $paragraphs += @items;
        my @good;
        if ( $kind eq 'c' ) {
            my $code = $items[0];
            my ( $n, $de, $en ) = language_score($code);
            @good = ($code) if $last =~ /:$/ && length $code <= 240 && $code =~ tr/\n// < 4 && $en < 2 && $en <= $de + 1 && $code !~ /[{}\\]/;
        }
        else {
            my $together = @items > 1 && is_german( join "\n", @items );
            for my $item (@items) {
                next if $item =~ /[\x{2500}-\x{257f}]/;    # drawn boxes: a table's remains
                my $good = is_german($item);
                if ( !$good && $together ) {
                    my ( $n, $de, $en ) = language_score($item);
                    $good = $n && $de >= $en && $n <= 12;
                }
                push @good, $item if $good;
            }
            # A list keeps its repeated items if most of it is new; otherwise its numbers mean nothing.
            my @new = grep { new_paragraph($_) } @good;
            if ( @new < @good && 2 * @new < @good + 1 ) { @good = map { s/^\d+\. /- /r } @new }
        }
        if ( !@good ) { $last = '' if $kind ne 'c'; next }
        $kept += @good;
        for my $head (@heads) {
            next if defined $head->[2];
            my ( $n, $de, $en ) = language_score( $head->[0] );
            $out .= "\n\n" . $head->[0] unless $en > $de || $head->[0] eq '-';
            $head->[2] = 1;
        }
        my $body = join "\n", @good;
        $out .= ( $kind eq 'l' && $last eq "l" ? "\n" : "\n\n" ) . $body;
        $last = $body;
        $length += length $body;
    }
    $out =~ s/^\n+//;
    return $length < 40 ? '' : $out;
}

# ------------------------------------------------------------------ files

sub slurp {
    my ($path) = @_;
    die "$path: not a regular file\n" unless -f $path;    # a pipe would never end
    open my $in, '<:raw', $path or die "$path: $!\n";
    local $/;
    my $bytes = <$in>;
    close $in or die "$path: $!\n";
    return defined $bytes ? $bytes : '';
}

sub text_of {    # UTF-8, or ISO 8859-1 where it is not
    my ($bytes) = @_;
    my $text = eval { decode( 'UTF-8', my $copy = $bytes, Encode::FB_CROAK ) };
    return defined $text ? $text : decode( 'ISO-8859-1', $bytes );
}

sub files_in {
    my ( $where, $pattern ) = @_;
    return ($where) if -f $where;
    my @files;
    File::Find::find( { no_chdir => 1, wanted => sub { push @files, $_ if -f $_ && !-l $_ && $_ =~ $pattern } }, $where );
    return sort @files;
}

# ------------------------------------------------------------------ markup: HTML, Mallard, DocBook

my %entity = (
    amp => '&', lt => '<', gt => '>', quot => '"', apos => "'", nbsp => ' ', shy => '', auml => 'ä', ouml => 'ö', uuml => 'ü',
    Auml => 'Ä', Ouml => 'Ö', Uuml => 'Ü', szlig => 'ß', eacute => 'é', egrave => 'è', agrave => 'à', ccedil => 'ç', ndash => '–',
    mdash => '—', hellip => '…', bdquo => '„', ldquo => '“', rdquo => '”', lsquo => '‘', rsquo => '’', sbquo => '‚', laquo => '«',
    raquo => '»', rarr => '→', larr => '←', copy => '©', reg => '®', trade => '™', middot => '·', bull => '•', deg => '°', sect => '§',
    times => '×', minus => '−', euro => '€', micro => 'µ', frac12 => '½', sup2 => '²', para => '', ge => '≥', le => '≤', infin => '∞',
);

sub unescape {
    my ($text) = @_;
    $text =~ s/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(\w+));/
        defined $3 ? ( exists $entity{$3} ? $entity{$3} : '' )
                   : character( defined $1 ? $1 : hex $2 )/ge;
    return $text;
}

sub character {
    my ($code) = @_;
    return $code > 0x10ffff || ( $code >= 0xd800 && $code <= 0xdfff ) || $code == 0 ? '' : chr $code;
}

# What a tag means. skip: it and all in it is left out; b: a new paragraph; t: a heading of the
# section around it; br: a new line; ol, ul, li, tr, td, dt, dd, pre as in HTML.
my %html = (
    ( map { $_ => 'skip' } qw(script style head nav header footer aside svg math button select form noscript audio video object sup) ),
    ( map { $_ => 'b' } qw(p div section article blockquote body center main figure figcaption caption fieldset dl) ),
    ( map { $_ => 'h' } qw(h1 h2 h3 h4 h5 h6) ),
    br => 'br', hr => 'b', ol => 'ol', ul => 'ul', li => 'li', table => 'table', tr => 'tr', td => 'td', th => 'td', dt => 'dt', dd => 'dd', pre => 'pre',
);
my %xml = (
    ( map { $_ => 'skip' } qw(info bookinfo articleinfo chapterinfo sectioninfo sect1info prefaceinfo legalnotice revhistory
        indexterm remark credit media mediaobject inlinemediaobject imageobject links toc index bibliography comment) ),
    ( map { $_ => 'b' } qw(p para simpara formalpara note tip warning caution important example quote_ blockquote abstract synopsis_ desc) ),
    ( map { $_ => 'section' } qw(section chapter sect1 sect2 sect3 sect4 sect5 preface appendix article book page part simplesect refsect1 refsect2 glossary) ),
    ( map { $_ => 'pre' } qw(screen programlisting literallayout synopsis cmdsynopsis) ),
    title => 't', orderedlist => 'ol', steps => 'ol', procedure => 'ol', itemizedlist => 'ul', list => 'ul', terms => 'ul', variablelist => 'ul',
    simplelist => 'ul', listitem => 'li', item => 'li', step => 'li', member => 'li', tr => 'tr', row => 'tr', td => 'td', entry => 'td', th => 'td',
    table => 'table', informaltable => 'table', varlistentry => 'b', term => 'dt', glossterm_ => 'dt', br => 'br',
    guiseq => 'menu', menuchoice => 'menu', keyseq => 'keys', keycombo => 'keys',
);
my $skip_class = qr/(?:^|\s)(?:navheader|navfooter|toc|list-of-\w+|nav_table|menu|related|relatedtopics|relatedbody|howtoget|sphinxsidebar|headerlink|
    footer\w*|footnotes?|footnote-reference|toc_\w+|copyright|authorgroup|legalnotice|revhistory|indexterm|index|noteicon|tbl_nav|contents|shortcontents|translations|node|
    tip_icon|mediaobject|informalfigure|highlight\S*|bug|debug|breadcrumbs?|language\S*|book-info|releaseinfo|pubdate)(?:\s|$)/x;
my %void = map { $_ => 1 } qw(br hr img input meta link area base col embed source track wbr);

sub markup {
    my ( $text, $action, $is_html ) = @_;
    my ( @blocks, @lists, @open );
    my ( $kind, $level, $buffer, $depth, $table, $pre, $fresh ) = ( 'p', 1, '', 1, 0, 0, 0 );
    my $flush = sub {
        my ($next) = @_;
        push @blocks, [ $kind, $buffer, $level ] if $buffer =~ /\S/ && !$fresh;
        ( $kind, $buffer, $fresh ) = ( $next || 'p', '', 0 );
    };
    $text =~ s/<!--.*?-->//gs;
    $text =~ s/<!\[CDATA\[(.*?)\]\]>/my $s = $1; $s =~ s{&}{&amp;}g; $s =~ s{<}{&lt;}g; $s/gse;
    my ( $skip, $skipped ) = ( '', 0 );
    while ( $text =~ m{\G(?:([^<]+)|<(/?)([A-Za-z][\w:.-]*)((?:[^<>"']|"[^"]*"|'[^']*')*)>|<[^>]*>?)}gc ) {
        my ( $chars, $end, $tag, $attributes ) = ( $1, $2, $3, $4 );
        if ( defined $chars ) {
            next if $skip ne '';
            $chars = unescape($chars);
            if ($pre) { $buffer .= $chars }
            else {
                $chars =~ s/\s+/ /g;
                next if $chars eq ' ' && ( $buffer eq '' || $fresh );
                next if @open && $chars eq ' ';
                $chars =~ s/^ // if $buffer eq '' || $buffer =~ /[\s]$/;
                $fresh = 0 if $chars =~ /\S/;
                $buffer .= $chars;
            }
            next;
        }
        next unless defined $tag;
        $tag = lc $tag if $is_html;
        $tag =~ s/^\w+://;
        my $empty = $attributes =~ m{/\s*$} || ( $is_html && $void{$tag} );
        if ( $skip ne '' ) {
            next if $tag ne $skip || $empty;
            $skipped += $end ? -1 : 1;
            $skip = '' if !$skipped;
            next;
        }
        my $what = $action->{$tag} || '';
        if ( !$end ) {
            my $class = $is_html && $attributes =~ /\bclass\s*=\s*["']([^"']*)["']/ ? $1 : '';
            if ( $what eq 'skip' || ( $class ne '' && $class =~ $skip_class ) ) {
                next if $empty;
                $flush->() if $what ne 'skip' && $action->{$tag};
                ( $skip, $skipped ) = ( $tag, 1 );
                next;
            }
            $what = 'pre' if $class eq 'code' && $tag eq 'p';
        }
        if    ( $what eq '' ) { if ( @open && !$end && $open[1]++ && $buffer =~ m{\S$} ) { $buffer .= $open[0] eq 'menu' ? ' > ' : '+' } }
        elsif ( $what eq 'menu' || $what eq 'keys' ) { @open = $end ? () : ( $what, 0 ) unless $empty }
        elsif ( $what eq 'br' ) { if ($table) { $buffer .= ' ' } elsif ( $buffer ne '' ) { $buffer .= $pre ? "\n" : "\n" } }
        elsif ( $what eq 'table' ) { $flush->(); $table += $end ? -1 : 1 unless $empty; $table = 0 if $table < 0 }
        elsif ( $what eq 'tr' ) {
            $buffer =~ s/\|\s*V:\d+,\s*I:\d+\s*\|\s*\d+\s*(?=\|)//;    # Debian's reference: popularity and size of packages
            $buffer = '' if $buffer =~ /\|\s*Popcon\s*\|/;
            $flush->( $end ? 'p' : 'l' );
        }
        elsif ( $what eq 'td' ) { $buffer .= $buffer =~ /\S/ ? ' | ' : '' if !$end }
        elsif ( $table && $what =~ /^(?:b|h|li|dt|dd|t|pre|ol|ul)$/ ) { $buffer .= ' ' if $buffer =~ /\S$/ }
        elsif ( $what eq 'pre' ) { $flush->( $end ? 'p' : 'c' ); $pre = $end || $empty ? 0 : $tag eq 'p' ? 0 : 1 }
        elsif ( $what eq 'p' || $what eq 'b' ) { $flush->() unless $fresh }
        elsif ( $what eq 'h' ) { $flush->( $end ? 'p' : 'h' ); $level = substr $tag, 1 }
        elsif ( $what eq 't' ) { $flush->( $end ? 'p' : 'h' ); $level = $depth }
        elsif ( $what eq 'section' ) { $flush->(); $depth += $end ? -1 : 1 unless $empty }
        elsif ( $what eq 'ol' || $what eq 'ul' ) {
            $flush->();
            if ($end) { pop @lists } elsif ( !$empty ) { push @lists, $what eq 'ol' ? 1 : 0 }
        }
        elsif ( $what eq 'li' ) {
            if ( !$end && $buffer =~ /\n$/ ) { $fresh = 0; next }    # DocBook: the text of a term just read
            $flush->( $end ? 'p' : 'l' );
            if ( !$end && !$empty ) {
                $buffer = @lists && $lists[-1] ? $lists[-1]++ . '. ' : '- ';
                $fresh  = 1;
            }
        }
        elsif ( $what eq 'dt' ) { if   ( !$end ) { $flush->('l') } else { $buffer .= "\n" } }
        elsif ( $what eq 'dd' ) { if   ( !$end ) { $fresh = $buffer =~ /\n$/ ? 1 : 0 } else { $flush->() } }
        # A new paragraph right after a list mark or a term belongs to it.
    }
    $flush->();
    return @blocks;
}

sub documents_html {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr/\.x?html?$/ ) ) {
        next if $file =~ m{(?:^|/)(?:index|genindex|search|developers-reference|[\w.-]*-index|index_\w+|[\w-]*-big-page|[\w-]*licen[sc]e)\.(?:de\.)?x?html?$};
        my $text = text_of( slurp($file) );
        $emit->( markup( $text, \%html, 1 ) );
    }
}

sub documents_libreoffice {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr/\.html$/ ) ) {
        my $text = text_of( slurp($file) );
        next unless $text =~ s/^.*?<div id="DisplayArea"[^>]*>//s;
        $text =~ s/<div id="(?:SearchFrame|DonationFrame)".*//s;
        # Alternatives for systems and modules: the default, or else the first, is shown.
        my %shown;
        my $alternative = qr/<span hidden="true" id="(default|[A-Z]+)(text[^"]*)"[^>]*>/;
        while ( $text =~ /$alternative/g ) { $shown{$2} = $1 if !$shown{$2} || $1 eq 'default' }
        $text =~ s/$alternative/$shown{$2} eq $1 ? '<span>' : '<span class="bug">'/ge;
        $emit->( markup( $text, \%html, 1 ) );
    }
}

sub documents_xml {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr/\.(?:page|docbook|xml)$/ ) ) {
        next if $file =~ m{/(?:legal|license|gpl|fdl|index)[^/]*$};
        my $text = text_of( slurp($file) );
        my %own  = $text =~ /<!ENTITY\s+(\w+)\s+"([^"<&]*)"/g ? $text =~ /<!ENTITY\s+([\w.-]+)\s+"([^"<&]*)"/g : ();
        $text =~ s/&([\w.-]+);/exists $own{$1} ? $own{$1} : "&$1;"/ge if %own;
        $text =~ s/<!DOCTYPE[^\[>]*(?:\[.*?\])?\s*>//s;
        # A book is one document a chapter.
        my @parts = split /(?=<(?:chapter|appendix|preface)\b)/, $text;
        $emit->( markup( $_, \%xml, 0 ) ) for @parts;
    }
}

# ------------------------------------------------------------------ man pages

my $man_width = 1000;    # few paragraphs are longer; those are joined again
my $man_skip  = qr/^(?:ÜBERSETZUNG|SIEHE\ AUCH|AUTOR(?:EN|IN)?|ÜBERSICHT|SYNOPSIS|SYNTAX|AUFRUF|COPYRIGHT|URHEBERRECHT.*|LIZENZ.*|KOLOPHON|
    FEHLER\ (?:MELDEN|BERICHTEN)|FEHLERBERICHTE.*|HOMEPAGE|KONTAKT.*|DANKSAGUNG.*|BIBLIOTHEK|ATTRIBUTE|STANDARDS|KONFORM\ ZU|WARENZEICHEN|
    VERFÜGBARKEIT|Texi\ Dokumentation\ anzeigen|GESCHICHTE\ DIESER.*|ÜBER\ DIESE\ DATEI|VERSION)$/ix;

sub continues {    # mandoc broke the line only because it was full
    my ( $line, $next ) = @_;
    my ($indent) = $line =~ m{^( *)};
    return 0 unless $next =~ m{^$indent([^\s-]+-?)};
    return length($line) + 1 + length($1) > $man_width - 2;
}

sub documents_man {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( "$where/usr/share/man/de", qr/\.\d\w*(?:\.gz)?$/ ) ) {
        open my $in, '-|:raw', 'mandoc', '-K', 'utf-8', '-T', 'utf8', '-O', "width=$man_width", $file
          or die "mandoc: $!: install the package mandoc\n";
        local $/;
        my $text = text_of( scalar <$in> // '' );
        close $in;    # mandoc's exit status reports matters of style, too
        $text =~ s/.\x08//g;
        my @lines = split /\n/, $text;
        shift @lines;
        pop @lines while @lines && $lines[-1] !~ /\S/;
        pop @lines;
        my ( @blocks, @paragraph, $skip, $title );
        my $flush = sub {
            return unless @paragraph;
            my ($indent) = $paragraph[0] =~ /^( *)/;
            my $columns = grep { /\S {3,}\S/ } @paragraph;
            if ( @paragraph > 2 && $columns * 2 > @paragraph ) {    # a table
                push @blocks, [ 'l', $_, 0 ] for map { s/^ +//r =~ s/ {3,}/ | /gr } @paragraph;
            }
            elsif ( $paragraph[0] =~ s/^ +([•·*○o–-]|\(?\d{1,3}[.)]) +// ) {
                my $mark = $1;
                push @blocks, [ 'l', ( $mark =~ /\d/ ? "$mark " : '- ' ) . join( "\n", @paragraph ), 0 ];
            }
            else {
                $paragraph[0] =~ s/^( +\S{1,6}) {2,}(?=\S)/$1\n/;    # a short term and its text share a line
                my $text = join "\n", @paragraph;
                push @blocks, [ length($indent) > 7 && !is_german($text) ? 'c' : 'p', $text, 0 ];
            }
            @paragraph = ();
        };
        for my $line (@lines) {
            if ( $line =~ /^(\S.*)$/ ) {
                $flush->();
                my $head = $1;
                $head =~ s/ +/ /g;
                $skip = $head =~ $man_skip;
                $title = $head =~ /^(?:BEZEICHNUNG|NAME)$/i;
                push @blocks, [ 'h', $head, 1 ] unless $skip || $title;
            }
            elsif ($skip) { }
            elsif ($title) { push @blocks, [ 'h', $line =~ s/\s+[-–—]\s+/ – /r, 0 ] if $line =~ /\S\s+[-–—]\s+\S/ }
            elsif ( $line =~ /^   (\S.*)$/ ) { $flush->(); push @blocks, [ 'h', $1, 2 ] }
            elsif ( $line !~ /\S/ )          { $flush->() }
            elsif ( @paragraph && continues( $paragraph[-1], $line ) ) { $line =~ s{^ +}{}; $paragraph[-1] .= ( $paragraph[-1] =~ m{\w-$} ? "" : " " ) . $line }
            else { push @paragraph, $line }
        }
        $flush->();
        $emit->(@blocks);
    }
}

# ------------------------------------------------------------------ the rest

sub documents_apt {    # deb-translation: paragraphs of `Package`, `Description-de` and its continuation
    my ( $where, $emit ) = @_;
    my %known;
    for my $record ( split /\n\n+/, text_of( slurp($where) ) ) {
        my ($package) = $record =~ /^Package: *(\S+)/m or next;
        my ( $title, $long ) = $record =~ /^Description-de(?:_\w+)?: *(.*)\n((?: .*\n?)*)/m or next;
        next if $known{"$package $title"}++ || $title =~ /<trans>/;
        my @blocks = ( [ 'h', "$package: $title", 1 ] );
        my $open;
        for my $line ( split /\n/, $long ) {
            if    ( $line =~ /^ \.\s*$/ || $line =~ /^\s*$/ )      { undef $open }
            elsif ( $line =~ /^ +([-*+•o·]) +(.*)/ )               { push @blocks, $open = [ 'l', "- $2", 0 ] }
            elsif ( $line =~ /^  +(\S.*)/ && ( !$open || $open->[0] ne 'l' ) ) { push @blocks, [ 'l', $1, 0 ]; undef $open }
            elsif ( $line =~ /^ +(\S.*)/ ) {
                my $rest = $1;
                if   ($open) { $open->[1] .= ( $open->[1] =~ m{\p{L}-$} && $rest =~ m{^\p{Lu}} ? '' : ' ' ) . $rest }
                else         { push @blocks, $open = [ 'p', $rest, 0 ] }
            }
        }
        $emit->( grep { $_->[1] !~ /<trans>/ } @blocks );
    }
}

sub documents_mo {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr{/(?:de|de_DE)/LC_MESSAGES/.*\.mo$} ) ) {
        open my $in, '-|:raw', 'msgunfmt', '--no-wrap', $file or die "msgunfmt: $!: install the package gettext\n";
        local $/;
        my $text = text_of( scalar <$in> // '' );
        close $in;
        my @blocks;
        for my $record ( split /\n\n+/, $text ) {
            next unless $record =~ /^msgstr(?:\[0\])? ((?:".*"\n?)+)/m && $record !~ /^msgid ""\nmsgstr/;
            my $string = join '', $1 =~ /"(.*)"/g;
            $string =~ s/\\n/\n/g;
            $string =~ s/\\(["\\])/$1/g;
            next if $string =~ /%(?:\d+\$)?[-+\d.]*[sdiufgc]/;    # a program fills it in
            next if $string =~ m{\$\w};
            $string =~ s/<[^>]*>//g;
            push @blocks, map { [ 'p', $_, 0 ] } split /\n\n+/, $string;
        }
        $emit->(@blocks);
    }
}

sub documents_fortune {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr{/games/fortunes/de/[^.]*$} ) ) {
        for my $quote ( split /^%.*\n/m, text_of( slurp($file) ) ) {
            $quote =~ s/(?<=[^\n]{58})\n(?=\S)/ /g;    # joins what was wrapped, not verse
            $emit->( map { [ 'p', $_, 0 ] } split /\n\s*\n/, $quote );
        }
    }
}

sub documents_text {
    my ( $where, $emit ) = @_;
    for my $file ( files_in( $where, qr/\.(?:txt|text|md)$/ ) ) {
        for my $part ( split /\f/, text_of( slurp($file) ) ) {
            $emit->( map { [ 'p', s/\n(?=\S)/ /gr, 0 ] } split /\n\s*\n/, $part );
        }
    }
}

my %documents = (
    man => \&documents_man, html => \&documents_html, libreoffice => \&documents_libreoffice, xml => \&documents_xml,
    apt => \&documents_apt, mo => \&documents_mo, fortune => \&documents_fortune, text => \&documents_text,
);

# ------------------------------------------------------------------ the plan

@ARGV == 1 or die "usage: german_text.pl OUT_DIR < PLAN   (lines: name TAB kind TAB file or folder)\n";
my $folder = shift @ARGV;
while ( my $line = <STDIN> ) {
    chomp $line;
    next if $line eq '';
    my ( $name, $kind, $where ) = split /\t/, $line, 3;
    die "plan, line $.: expected name TAB kind TAB path, found: $line\n" unless defined $where && $documents{$kind};
    my $path = "$folder/$name.txt";
    open my $out, '>:raw', "$path.part" or die "$path.part: $!\n";
    my $digest = Digest::SHA->new(256);
    my ( $count, $bytes ) = ( 0, 0 );
    ( $paragraphs, $kept ) = ( 0, 0 );
    $documents{$kind}->( $where, sub {
        my $text = document(@_);
        return if $text eq '';
        my $data = encode( 'UTF-8', ( $count++ ? "\f\n" : '' ) . "$text\n" );
        $bytes += length $data;
        $digest->add($data);
        print {$out} $data or die "$path.part: $!\n";
    } );
    close $out or die "$path.part: $!\n";
    rename "$path.part", $path or die "$path: $!\n";
    print join( "\t", $name, $count, $paragraphs, $kept, $bytes, $digest->hexdigest ), "\n";
}
