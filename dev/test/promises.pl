#!/usr/bin/env perl
# promises.pl: what DESIGN and STYLE promise of the source and a machine can read off it. promises_test.sh runs it.
#
#   perl dev/test/promises.pl [CHECK...]      in the repository's root, or in a copy of its sources; default: all
#
#   engine       both programs define the functions of engine.h, in the same order
#   steps        and with the same numbered steps (`// 3. ...`) inside
#   kernels      what llmc/cpu and llmc/cuda both define takes the same arguments by name, but for the device at the end
#   rooms        a header includes only rooms that stand before its own
#   columns      no line above 120 columns, outside tables (`clang-format off`) and the generated unicode.h
#   functions    no function above 100 lines; a test lists cases and may have more
#   enumerators  those of one enum share a prefix that ends in _; an unnamed enum with every value given holds constants
#
# A reading by pattern, good for code that clang-format has laid out: a function starts and ends in column 0. Prints a
# line for each fault, and last for each check `CHECK: N looked at, M faults`. Ends with 1 if there was a fault, or if a
# check found nothing to look at. Exceptions stand here, each with its reason; one that nothing needs is noted.
use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));

my %exceptions = (
    kernels => {
        adamw => 'one tensor there, all of a piece in one launch here',
        cross_entropy => 'ld: rows of logits are padded on the device',
        embedding_backward => 'groups: tokens sorted beforehand, so that no two threads add to one row',
        gemm => 'loops over operands there, a call of cuBLASLt here',
        muon_update => 'what clips, and what is not finite, lies on the device there',
    },
    rooms => {
    },
    columns => {
        'llmc/text/unicode.h' => 'generated',
    },
    functions => {},
    enumerators => {},
);
my (%met, $check);
my ($looked, $faults) = (0, 0);
# fault MESSAGE [NAME]: NAME is what the exceptions go by.
sub fault {
    my ($message, $name) = @_;
    if (defined $name && $exceptions{$check}{$name}) { $met{$name} = 1; return }
    print "$message\n";
    $faults++;
}

sub text_of {
    my ($file) = @_;
    open my $in, '<', $file or die "promises.pl: cannot read $file: $!\n";
    local $/;
    return scalar <$in>;
}
# Comments and strings out, lines kept.
sub code_of {
    my ($text) = @_;
    $text =~ s{(/\*.*?\*/)|(//[^\n]*)|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')}
              {my $c = $1; defined $c ? $c =~ s/[^\n]//gr : defined $2 ? '' : '""'}gse;
    $text =~ s/__launch_bounds__\([^()]*\)//g;
    return $text;
}
sub sources { return sort grep { -f } map { glob } qw(*.c *.cu *.h llmc/*.h llmc/*/*.h dev/*/*.c dev/*/*.cc dev/*/*.cu dev/*/*.h) }

# [name, arguments, what follows them: ; or {, start, end of the body's text] of the functions of a source.
sub functions_of {
    my ($code) = @_;
    my @found;
    while ($code =~ /^(?!typedef|struct|enum|return|else)[A-Za-z_][^;{}()#]*?\b(\w+)\(([^;{}]*?)\)\s*([;{])/mg) {
        my ($name, $arguments, $sign, $end) = ($1, $2, $3, pos $code);
        if ($sign eq '{') { # to the brace in column 0, or on the same line
            my $line_end = index $code, "\n", $end;
            my $rest = substr $code, $end, $line_end - $end;
            $end = $rest =~ /\}\s*$/ ? $line_end : do { my $at = index $code, "\n}", $end; $at < 0 ? length $code : $at + 2 };
        }
        push @found, [$name, $arguments, $sign, $-[0], $end];
    }
    return @found;
}
sub names_of { # of arguments
    my ($arguments) = @_;
    my @names;
    $arguments =~ s/<[^<>]*>//g;
    for (split /,/, $arguments) { push @names, /(\w+)(?:\[[^\]]*\])*\s*$/ ? $1 : '?' }
    return @names;
}

sub engine {
    my @wanted = map { $_->[0] } grep { $_->[2] eq ';' } functions_of(code_of(text_of('llmc/engine.h')));
    my (%wanted, %order);
    $wanted{$_} = 1 for @wanted;
    for my $file ('train_gpt_cpu.c', 'train_gpt.cu') {
        my @found = map { $_->[0] } grep { $_->[2] eq '{' && $wanted{$_->[0]} } functions_of(code_of(text_of($file)));
        my %found = map { $_ => 1 } @found;
        for (@wanted) { $looked++; fault("$file: engine.h's $_ is not defined") if !$found{$_} }
        $order{$file} = \@found;
    }
    my ($cpu, $cuda) = @order{'train_gpt_cpu.c', 'train_gpt.cu'};
    for my $i (0 .. $#$cpu) {
        next if $cpu->[$i] eq ($cuda->[$i] // '');
        fault("train_gpt.cu has " . ($cuda->[$i] // 'nothing') . " where train_gpt_cpu.c has $cpu->[$i]");
        last;
    }
}

# Passes that the CUDA program replays as graphs carry the steps under names of their own.
my %pass = (model_forward => 'forward_pass', model_backward => 'backward_pass', model_update => 'update_pass');
sub steps_of {
    my ($file) = @_;
    my $text = text_of($file);
    my $code = $text =~ s{("(?:\\.|[^"\\\n])*")}{$1 =~ s/[{};]/ /gr}ger; # comments stay
    my %steps;
    for (functions_of($code)) {
        my ($name, undef, $sign, $from, $to) = @$_;
        my @numbers = substr($code, $from, $to - $from) =~ /^\s*\/\/ (\d+)\. /mg;
        $steps{$name} = join ' ', @numbers if $sign eq '{' && @numbers;
    }
    return %steps;
}
sub steps {
    my %cpu = steps_of('train_gpt_cpu.c');
    my %cuda = steps_of('train_gpt.cu');
    for my $name (qw(block_forward block_backward model_forward model_backward model_update)) {
        fault("train_gpt_cpu.c: $name has no numbered steps") if !$cpu{$name};
    }
    my %named = map { $_ => 1 } keys %cpu;
    for my $name (sort keys %cpu) {
        my $there = !$cuda{$name} && $pass{$name} ? $pass{$name} : $name;
        $looked++, $named{$there} = 1;
        fault("$name: steps $cpu{$name} in train_gpt_cpu.c, " . ($cuda{$there} // 'none') . " in train_gpt.cu's $there")
            if $cpu{$name} ne ($cuda{$there} // '');
    }
    for (sort keys %cuda) { fault("$_: steps $cuda{$_} in train_gpt.cu, none in train_gpt_cpu.c") if !$named{$_} }
}

sub kernels {
    my %of;
    for my $room (qw(cpu cuda)) {
        for my $file (glob "llmc/$room/*.h") {
            for (functions_of(code_of(text_of($file)))) {
                push @{$of{$room}{$_->[0]}}, [$file, names_of($_->[1])] if $_->[2] eq '{';
            }
        }
    }
    for my $name (sort keys %{$of{cpu}}) {
        my $there = $of{cuda}{$name} or next;
        my ($file, @here) = @{$of{cpu}{$name}[0]};
        next if !@here || pop @here ne 'cpu'; # no kernel
        $looked++;
        for (@$there) {
            my ($cuda_file, @names) = @$_;
            my $device = @names ? pop @names : '';
            fault("$name: (@here, cpu) in $file, (@names, $device) in $cuda_file", $name)
                if "@here" ne "@names" || $device !~ /^(gpu|d|device|stream)$/;
        }
    }
}

sub rooms {
    my @order = qw(base text corpus ranks objective.h model.h codes.h engine.h cpu cuda files account run);
    my %floor = map { $order[$_] => $_ } 0 .. $#order;
    for my $file (map { glob } 'llmc/*.h', 'llmc/*/*.h') {
        my ($room) = $file =~ m{^llmc/([^/]+)};
        if (!defined $floor{$room}) { fault("$file: no such room"); next }
        for my $include (text_of($file) =~ /^#include "([^"]+)"/mg) {
            $looked++;
            my $path = ($file =~ s{[^/]*$}{}r) . $include;
            1 while $path =~ s{[^/]+/\.\./}{};
            my ($other) = $path =~ m{^llmc/([^/]+)};
            if (!-f $path) { fault("$file: includes $include, which is not there") }
            elsif (!defined $other || !defined $floor{$other}) { fault("$file: includes $include from outside the rooms") }
            elsif ($floor{$other} > $floor{$room}) { fault("$file: includes $include from a room above its own", $file) }
        }
    }
}

sub columns {
    for my $file (sources()) {
        my ($number, $table) = (0, 0);
        for (split /\n/, text_of($file)) {
            $number++, $looked++;
            $table = $1 eq 'off' if m{// clang-format (off|on)};
            fault("$file:$number: " . length() . ' columns', $file) if length() > 120 && !$table;
        }
    }
}

sub functions {
    for my $file (grep { !m{^dev/test/} } sources()) {
        my $code = code_of(text_of($file));
        for (functions_of($code)) {
            my ($name, undef, $sign, $from, $to) = @$_;
            next if $sign ne '{';
            $looked++;
            my $lines = 1 + (substr($code, $from, $to - $from) =~ tr/\n//);
            my $number = 1 + (substr($code, 0, $from) =~ tr/\n//);
            fault("$file:$number: $name has $lines lines", $name) if $lines > 100;
        }
    }
}

sub enumerators {
    for my $file (sources()) {
        next if $file =~ m{^dev/emu/}; # CUDA's names
        my $code = code_of(text_of($file)) =~ s/^#.*?(?<!\\)$//msgr; # tables of macros say their names elsewhere
        while ($code =~ /(typedef\s+)?\benum\b\s*(\w*)\s*\{([^}]*)\}/g) {
            my ($type, $body) = ($1 || $2, $3);
            my $number = 1 + (substr($code, 0, $-[0]) =~ tr/\n//);
            1 while $body =~ s/\w*\([^()]*\)//g;
            my @items = grep { /\w/ } split /,/, $body;
            next if !@items || (!$type && !grep { !/=/ } @items);
            my @names = map { /(\w+)/ } @items;
            $looked++;
            pop @names if @names > 1 && $names[-1] =~ /S$/ && $names[-1] !~ /_/; # how many there are: FAMILIES
            my $prefix = $names[0] =~ s/[^_]*$//r;
            for (@names) { $prefix =~ s/[^_]*_$// while index($_, $prefix) != 0 }
            fault("$file:$number: no common prefix: @names", ) if $prefix eq '';
        }
    }
}

# Every name between backticks in dev/adding.md: a path is there, anything else stands somewhere in the sources.
sub names {
    my @files = (sources(), 'Makefile', grep { !/promises/ } glob('dev/test/*.sh'));
    my $all = join "\n", map { text_of($_) } @files;
    for my $name (text_of('dev/adding.md') =~ /`([^`]+)`/g) {
        $looked++;
        if ($name =~ /^make (\S+)/) { fault("dev/adding.md: make has no target $1") if $all !~ /^$1:|\.PHONY:.*\b$1\b/m }
        elsif ($name =~ m{/}) { fault("dev/adding.md: $name is not there") if !-e $name }
        else { fault("dev/adding.md: nothing is called $name") if $all !~ /\b\Q@{[$name =~ s{^--}{}r]}\E(?![A-Za-z0-9])/ }
    }
}

my @checks = @ARGV ? @ARGV : qw(engine steps kernels rooms columns functions enumerators names);
my %code = (engine => \&engine, steps => \&steps, kernels => \&kernels, rooms => \&rooms, columns => \&columns,
    functions => \&functions, enumerators => \&enumerators, names => \&names);
my $failed = 0;
for (@checks) {
    die "promises.pl: no check '$_'\n" if !$code{$_};
    ($looked, $faults, $check) = (0, 0, $_);
    %met = ();
    $code{$_}->();
    for my $name (sort keys %{$exceptions{$check}}) { print "note: $check: $name needs no exception\n" if !$met{$name} }
    fault("$_: found nothing to look at") if !$looked;
    print "$_: $looked looked at, $faults faults\n";
    $failed = 1 if $faults;
}
exit $failed;
